"""What `test_hostile_tables.py` calls: a working call of each public class and function that takes settings, and which junk is a right value for which argument.

A case names the callable, gives the arguments of a call that works, and says for each argument which of the junk is no junk for it. An argument that is not named takes none of it;
None is right wherever it is the default. So a new argument is hostile ground until somebody says here what it takes.
"""
import inspect, tempfile
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Callable

import numpy as np
import torch

JUNK = {'None': None, 'True': True, 'text': 'x', '-1': -1, '0': 0, 'huge': 10**12, 'nan': float('nan'),
        'int3': np.int64(3), 'float': np.float32(.5), '[]': []}

TESTS = Path(__file__).resolve().parents[1]
FLAG, TEXT, ANY = 'True', 'text', ' '.join(JUNK)                  # what is right for kinds of arguments
COUNT, COUNT0, WHOLE = 'int3 huge', 'int3 huge 0', 'int3 huge 0 -1'
SMALL, SMALL0 = 'int3', 'int3 0'                                  # whole numbers that something limits
POSITIVE, NOT_NEGATIVE, NUMBER = 'int3 float huge', 'int3 float huge 0', 'int3 float huge 0 -1'
RATE, SHARE = 'float 0', 'float 0'                                # below 1; 1 and below
ABOVE0 = 'float'                                                  # of a share, without 0
SEED = WHOLE
NOTHING = ''
RIGHT_ANYWHERE = dict(max_numbers='None ' + COUNT)                # of arguments that mean the same wherever they are


@dataclass
class Case:
    "A callable, a call that works, and what is right."
    name: str                                                     # dotted, behind romae_nb
    works: dict | Callable = field(default_factory=dict)          # arguments; or what makes them anew for each call
    right: dict = field(default_factory=dict)                     # argument -> labels of JUNK that it takes
    call: Callable | None = None                                  # what to call, where it is not what the name says
    skip: dict = field(default_factory=dict)                      # argument -> labels that are right and too long to run

    @property
    def module(self): return self.name.split('.')[0]

    def target(self):
        if self.call is not None: return self.call
        module, *rest = self.name.split('.')
        found = import_module(f'romae_nb.{module}')
        for part in rest: found = getattr(found, part)
        return found

    def arguments(self): return dict(self.works() if callable(self.works) else self.works)

    def parameters(self):
        "Name -> labels that are right, of every argument of the signature and every other that is named in `right`."
        found = {k: p for k, p in inspect.signature(self.target()).parameters.items() if k not in ('self', 'device',
                                                                                                   'dtype') and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        none = {k for k, p in found.items() if p.default is None}
        right = RIGHT_ANYWHERE | self.right
        return {k: set(right.get(k, '').split()) | ({'None'} if k in none else set()) for k in [*found,
                                                                                                *(k for k in self.right if k not in found)]}


# Tiny things to call with, made once

@cache
def series():
    from romae_nb.data import IrregularDataset
    rng = np.random.default_rng(0)
    return IrregularDataset([rng.normal(size=(5, 2)) for _ in range(8)], [rng.uniform(0, 9, (5,
                                                                                             1)) for _ in range(8)],
                                                                                             np.arange(8) % 2)

@cache
def images():
    from romae_nb.data import GridDataset
    return GridDataset(np.random.default_rng(0).normal(size=(8, 1, 8, 8)), np.arange(8) % 2)

@cache
def loaders(kind='series'):
    from romae_nb.data import dataloaders
    return dataloaders(series() if kind == 'series' else images(), splits=(range(4), range(4, 8)), bs=4, device='cpu')

TINY = dict(embed_dim=24, depth=1, num_heads=2)
OF_IMAGES = dict(TINY, img_size=8, tubelet_size=(1, 4, 4), in_chans=1)
DECODER = dict(decoder_dim=24, decoder_heads=2, decoder_depth=1)

@cache
def encoder():
    import timm, romae_nb
    return timm.create_model('romae_tiny', num_classes=0, **OF_IMAGES)

@cache
def mae():
    from romae_nb.mae import MaskedAutoencoder
    torch.manual_seed(0)
    return MaskedAutoencoder('romae_tiny', dict(OF_IMAGES), **DECODER)

@cache
def places_mae():
    "A model that can be asked at places."
    from romae_nb.mae import MaskedAutoencoder
    torch.manual_seed(0)
    return MaskedAutoencoder('romae_tiny', dict(OF_IMAGES), norm_targets=False, **DECODER)

@cache
def rope():
    from romae_nb.rope import NDPRope
    return NDPRope(12, 2)

def config(**kw):
    from romae_nb.encoder import EncoderConfig
    return EncoderConfig(**dict(d_model=24, nhead=2, depth=1) | kw)

def tubelets():
    from romae_nb.tubelets import Tubelets
    return Tubelets((1, 4, 4), 1)

def ragged(width=1):
    from romae_nb.tubelets import Ragged
    return Ragged.from_rows([torch.rand(4, width), torch.rand(3, width)])

def learner(kind='pretrain'):
    from romae_nb import learner as l
    if kind == 'pretrain': return l.pretrain_learner(loaders('images'), 'romae_tiny_shallow', encoder_kw=TINY,
                                                     verbose=False, **DECODER)
    return l.finetune_learner(loaders('images'), 'romae_tiny_shallow', verbose=False, **TINY)

def scaling():
    from romae_nb.scaling import Scaling
    return Scaling((0.,), (1.,))

values = torch.rand(2, 1, 8, 8)
grid_at = torch.rand(2, 2, 4)
labels = torch.tensor([0, 1] * 6)
vectors = torch.randn(12, 3)
one_frame = dict(id=[0, 0, 1, 1], time=[0., 1., 0., 1.], channel=['a'] * 4, value=[1., 2., 3., 4.])


# Public, and not in the table: these take no settings of users. Theirs are checked where they come in.
LEFT_OUT = dict(
    length_buckets='called by TokenDL with settings that it has checked', epoch_batches='likewise',
    Position='a record of where a run is, made by ExactCheckpoints',
    set_learner='restores what ExactCheckpoints wrote', fit_settings='reads a Learner',
    from_first='between processes', Progress='a bar of the demo',
    fold_probe='takes a model alone', timm_dataset="hands its settings to timm's create_dataset, which loads them",
    from_mae='reads a foreign file; its settings are looked at behind the file',
    from_flax='likewise', RateTrial="fastai's LRFinder, made by lr_find", Share='made by distributed',
    RmsNorm="timm's layer with its arguments, made from a checked EncoderConfig",
    from_text='reads a text of the environment by a type that the program gives; settings are checked where they come in',
    from_environment='reads the environment and a file; each setting is checked by its section',
    RoMAEEmbedder="scikit-learn's rule: constructors store, fit checks", RoMAEClassifier='likewise',
    RoMAERegressor='likewise', RoMAEResampler='likewise',
    Boxes='a record', Mix='a record')


def frame():
    import pandas as pd
    return pd.DataFrame(one_frame)


def dataloaders_of(datasets, **kw):
    from romae_nb.data import dataloaders
    return dataloaders(datasets, **kw)


# Keywords that both Learners hand to fastai's own
FASTAI = dict(lr=POSITIVE, splitter=NOTHING, path='None text', model_dir=TEXT, wd_bn_bias=FLAG, train_bn=FLAG,
              moms='None', default_cbs=FLAG, loss_func='None', metrics='None []')
ENCODER = dict(img_size=SMALL, in_chans=SMALL, num_classes=SMALL0, global_pool=NOTHING, tubelet_size=NOTHING,
               n_pos_dims=SMALL, class_token=FLAG, embed_dim=NOTHING, depth=SMALL, num_heads=SMALL,
               mlp_ratio='int3 float', mlp_dim='None int3', p='0 float', base='int3 huge', pos_encoding=NOTHING,
               norm_eps=NOT_NEGATIVE, drop_rate=RATE, pos_drop_rate=RATE, proj_drop_rate=RATE,
               attn_drop_rate=RATE, attn_proj_drop_rate=RATE, drop_path_rate=RATE,
               init_values='None float int3 huge 0 -1', channel_tokens=FLAG, factor_axis='None 0',
               max_tokens='None int3 huge', unit=POSITIVE,
               dynamic_img_pad=FLAG, weight_init=NOTHING)
MORE_OF_IMAGES = dict(axes=NOTHING)
OF_DATA = dict(unit='None ' + POSITIVE, in_chans='None', n_pos_dims='None', wd='None ' + NOT_NEGATIVE, opt_kw='None', encoder_kw='None',
               pretrained='None')     # what the batches decide
BY_NAME = {k: f'None {right}' for k,
           right in ENCODER.items() if k != 'num_classes'} | OF_DATA     # of a Learner's encoder: None leaves it to the data or to the default, as in timm
MAE = dict(mask_ratio='None float', decoder_dim='None', decoder_heads='None int3', decoder_depth='None int3',
           decoder_kw='None', norm_targets=FLAG, mask_fn=NOTHING, reference_mean=FLAG, head_drop_rate=RATE,
           loss=NOTHING, loss_kw='None', encoder_pos=NOTHING, decoder_pos='None', decoder_block='None',
           channel_axis='None 0')

CASES = [
    # positions, rope
    Case('positions.grid_positions', dict(sizes=(2, 2)), dict(n_pos_dims='None int3')),
    Case('positions.tubelet_centers', dict(coords=[torch.arange(4.)], tubelet_size=(2,))),
    Case('positions.Rebase', dict(origin=(0.,), scale=(1.,)), dict(start=NUMBER)),
    Case('positions.fit_rebase', dict(rows=[torch.rand(4, 1)])),
    Case('positions.channel_positions', dict(positions=torch.rand(1, 1, 4), channels=2), dict(channels=SMALL)),
    Case('rope.NDPRope', dict(head_dim=12, n_dims=2), dict(n_dims=SMALL, p='0 float', base='int3 huge',
                                                             unit=POSITIVE)),
    Case('rope.axis_width', dict(head_dim=8, n_dims=2), dict(n_dims=SMALL, head_dim='huge')),
    Case('rope.sincos_rows', dict(index=torch.arange(3.), dim=8), dict(base='int3 huge float')),
    Case('rope.sincos_table', dict(n=3, dim=8), dict(n=SMALL0, base='int3 huge float')),
    Case('rope.sincos_positions', dict(positions=torch.rand(1, 2, 3), dim=8), dict(base='int3 huge float')),
    Case('rope.AddedPositions', dict(kind='sincos', dim=8, max_tokens=None), dict(dim=SMALL, max_tokens='None int3 huge',
                                                                                  prefix=FLAG)),
    Case('codes.CoordinateCode', dict(kind='sincos', dim=8), dict(dim=SMALL, n_dims=SMALL, base='int3 huge',
                                                                   unit=POSITIVE)),
    Case('noise.RowNoise', dict(rows=[0, 1], seed=0), dict(rows='[]', seed=SEED)),
    Case('places.suggest_rope', lambda: dict(dls=loaders()), dict(samples=COUNT)),
    Case('places.suggest_anchors', lambda: dict(dls=loaders(), n=2), dict(n=COUNT, samples=COUNT, seed=SMALL0)),
    Case('anchors.AnchorPool', lambda: dict(encoder_dim=16, anchors=[[0.], [1.]], cfg=config()),
         dict(encoder_dim=SMALL, prefix=SMALL0, channels='None int3', out_dim=SMALL, learned=FLAG, mean=FLAG)),
    # tubelets, tokens
    Case('tubelets.Tubelets', dict(size=(1, 4, 4), channels=1), dict(channels=COUNT, n_pos_dims=COUNT,
                                                                     per_channel=FLAG, pad=FLAG)),
    Case('tubelets.grid_size', dict(values=values, tubelet_size=(1, 4, 4))),
    Case('tubelets.patchify', dict(values=values, tubelet_size=(1, 4, 4))),
    Case('tubelets.unpatchify', dict(tokens=torch.rand(2, 4, 16), tubelet_size=(1, 4, 4), grid=(1, 2, 2), channels=1)),
    # True is the margin of a mask
    Case('tubelets.pad_to_tubelet', dict(values=values, tubelet_size=(1, 3, 3)), dict(fill=NUMBER + ' nan True')),
    Case('tubelets.crop_to', dict(values=values, size=(1, 4, 4))),
    Case('tubelets.check_batch', dict(values=values), dict(num_classes='None int3 huge', use_cls=FLAG, mask='None')),
    # masks
    Case('masking.hidden_count', dict(n=8, ratio=.5), dict(n='int3 0 huge', ratio=RATE)),
    Case('masking.random_mask', dict(valid=torch.ones(2, 6, dtype=torch.bool), ratio=.5), dict(ratio=RATE)),
    Case('masking.BlockMask', dict(), dict(n_blocks=COUNT, aspect=POSITIVE, round=FLAG)),
    Case('masking.TubeMask', dict(), dict(time=WHOLE, whole=FLAG)),
    Case('masking.ChannelMask', dict(), dict(axis=WHOLE, whole=FLAG)),
    Case('masking.SuffixMask', dict(), dict(axis=WHOLE, whole=FLAG)),
    Case('masking.PerChannelMask', dict(), dict(axis=WHOLE)),
    Case('masking.SpanMask', dict(), dict(mean_length='int3 huge', axis=WHOLE, within='[]')),
    Case('masking.UnionMask', lambda: dict(parts=('random', 'block'))),
    Case('masking.OneOfMask', lambda: dict(parts=('random', 'block'))),
    Case('masking.make_mask', dict(spec='random')),
    # losses
    Case('losses.TokenLoss', dict(), dict(norm_targets=FLAG, reference_mean=FLAG)),
    Case('losses.TokenLoss', dict(kind='huber'), dict(norm_targets=FLAG, huber_delta=POSITIVE, reference_mean=FLAG)),
    # models
    Case('encoder.EncoderConfig', dict(d_model=24, nhead=2, depth=1),
         dict(nhead=SMALL, depth=COUNT, dim_feedforward='None int3 huge', mlp_ratio='int3 float huge',
              layer_norm_eps=NOT_NEGATIVE, drop_path_rate=RATE, hidden_drop_rate=RATE, attn_drop_rate=RATE,
              attn_proj_drop_rate=RATE, pos_drop_rate=RATE, n_pos_dims=SMALL, p='0 float', base='int3 huge', unit=POSITIVE,
              max_tokens='None int3 huge', init_values='None int3 float huge 0 -1', factor_axis='None 0', act='None')),
    Case('encoder.DropPath', dict(), dict(rate=RATE)),
    Case('encoder.Attention', lambda: dict(cfg=config())),
    Case('encoder.Block', lambda: dict(cfg=config()), dict(drop_path_rate=RATE)),
    Case('encoder.Encoder', lambda: dict(cfg=config())),
    Case('decoder.Decoder', lambda: dict(encoder_dim=16, out_dim=4, cfg=config()), dict(encoder_dim=SMALL,
                                                                                        out_dim=SMALL, prefix=SMALL0,
                                                                                        channels='None int3',
                                                                                        token_drop=RATE,
                                                                                        head_drop=RATE)),
    Case('romae.RoMAE', dict(OF_IMAGES), ENCODER),
    Case('romae.romae_tiny', dict(OF_IMAGES), ENCODER | dict(pretrained=NOTHING, global_pool='None')),
    Case('romae.image_tokens', lambda: dict(img_size=8, cut=tubelets()), dict(img_size=SMALL)),
    Case('romae.check_tubelet_size', dict(tubelet_size=(1, 4, 4))),
    Case('mae.MaskedAutoencoder', lambda: dict(encoder='romae_tiny', encoder_kw=dict(OF_IMAGES), **DECODER), MAE),
    Case('mae.MaskedAutoencoder.draw_mask', dict(values=values), dict(generator='None'),
         call=lambda **kw: mae().draw_mask(**kw)),
    Case('predict_at.predict_at', lambda: dict(mae=places_mae(), values=values, positions=None, at=grid_at),
         dict(queries=COUNT, positions='None')),
    Case('vit.set_positions', lambda: dict(vit=vit(), kind='learned')),
    # saving and conversion
    Case('hub.save', lambda: dict(model=mae(), folder='saved'),
         dict(folder=TEXT, notes=TEXT, label_names='[]')),         # one for each of its classes: it has none
    Case('hub.load', lambda: dict(folder=saved())),
    Case('hub.save_encoder', lambda: dict(mae=mae(), folder='saved'), dict(folder=TEXT)),
    Case('hub.to_timm', lambda: dict(model=mae(), num_classes=3), dict(num_classes=SMALL0, probe=FLAG,
                                                                       img_size='None')),
    Case('hub.ProbeHead', dict(dim=8, num_classes=2), dict(dim=SMALL, num_classes=SMALL)),
    Case('hub.from_reference', dict(folder=TESTS/'reference'/'pretrain_absolute'), dict(reference_mean=FLAG)),
    Case('hub.model_card', lambda: dict(model=mae()), dict(notes=TEXT)),
    # data
    Case('scaling.Scaling', dict(mean=(0.,), std=(1.,)), dict(channel_axis='None ' + COUNT0)),
    Case('scaling.fit_scaling', lambda: dict(samples=[(torch.rand(4, 1), torch.rand(4, 2))]), dict(irregular=FLAG,
                                                                                                   channel_axis='None 0', channels='None ' + COUNT)),
    Case('datasets.IrregularDataset', dict(values=[np.ones((3, 1))], positions=[np.ones((3, 2))], labels=[0]),
         dict(marks=FLAG, channel_axis='None 0')),
    Case('datasets.GridDataset', dict(values=np.ones((2, 1, 4, 4)), labels=[0, 1]), dict(marks=FLAG)),
    Case('datasets.Part', lambda: dict(dataset=series())),
    Case('datasets.encode_labels', dict(labels=[0, 1, 1], n=3), dict(n=SMALL, labels='None')),
    Case('datasets.collate', lambda: dict(samples=[series()[0], series()[1]]), dict(irregular=FLAG,
                                                                                    num_classes='None int3 huge',
                                                                                    marks=FLAG)),
    Case('images.to_values', dict(x=np.ones((1, 4, 4)))),
    Case('images.folder_dataset', lambda: dict(root=pictures()), dict(split='None', transform='None', labels=FLAG,
                                                                      mode='None', marks=FLAG, random='None True',
                                                                      **MORE_OF_IMAGES)),
    Case('images.make_shards', lambda: dict(root=pictures(), out='shards'), dict(out=TEXT, per_shard=COUNT,
                                                                                 seed='None ' + SEED)),
    Case('images.shard_dataset', lambda: dict(urls=shards()), dict(labels=FLAG, mode='None', cache='None text',
                                                                   marks=FLAG, random='None True', **MORE_OF_IMAGES)),
    Case('images.ItemDataset', lambda: dict(items=[(np.ones((1, 4, 4)), 0), (np.ones((1, 4, 4)), 1)]),
         dict(marks=FLAG, random=FLAG)),
    Case('series.series_dataset', dict(values=[np.ones((3, 1))], times=[np.arange(3.)], labels=[0]), dict(marks=FLAG)),
    Case('series.from_frame', lambda: dict(frame=frame()), dict(marks=FLAG, channel='None')),
    Case('series.from_ts', lambda: dict(path=ts_file()), dict(marks=FLAG)),
    Case('data.TokenDL', lambda: dict(dataset=series(), bs=4),
         dict(bs='None int3 huge', shuffle=FLAG, num_workers=COUNT0, seed=WHOLE + ' text', max_tokens='None huge',
              drop_last=FLAG, pin_memory=FLAG, after_item='None []', after_batch='None []', timeout=NOT_NEGATIVE)),
    Case('data.dataloaders', lambda: dict(datasets=series(), splits=(range(4), range(4, 8)), device='cpu'),
         dict(bs='None int3 huge', val_bs='None int3 huge', seed=WHOLE + ' text', shuffle=FLAG, drop_last=NOTHING,
              num_workers=COUNT0, path=TEXT, max_tokens='None huge', layout=NOTHING, splits=NOTHING, scaling='None',
              device='None 0 int3 huge'), call=dataloaders_of),
    Case('data.show_batch', dict(), dict(max_n=COUNT, ncols='None ' + COUNT, show=FLAG, figsize='None'),
         call=lambda **kw: drawn(loaders().train.show_batch(**kw))),
    Case('data.show_sample', dict(values=torch.rand(1, 4, 4)), dict(title='None text', frames=COUNT, bands='None 0')),
    # augmentations
    Case('augment.MixSamples', dict(), dict(mixup=NOT_NEGATIVE, cutmix=NOT_NEGATIVE, prob=SHARE, switch=SHARE,
                                            seed=SEED)),
    Case('augment.EraseBox', dict(), dict(prob=SHARE, fill=NUMBER, seed=SEED)),
    Case('augment.JitterSeries', dict(jitter=.1), dict(jitter=NOT_NEGATIVE, gain=NOT_NEGATIVE, shift=NOT_NEGATIVE,
                                                       stretch=NOT_NEGATIVE, axis='None 0 int3 huge', seed=SEED)),
    Case('jitter.JitterPositions', dict(shift=.1), dict(shift=NOT_NEGATIVE, stretch=RATE, noise=NOT_NEGATIVE,
                                                       axes='None []', seed=COUNT0), skip=dict(shift='0')),
    Case('augment.RepeatedDL', lambda: dict(dataset=series(), repeats=2), dict(repeats=COUNT, bs='None int3 huge',
                                                                               shuffle=FLAG)),
    Case('augment.repeated', lambda: dict(dl=loaders().train, repeats=2), dict(repeats=COUNT)),
    Case('augment.image_transforms', dict(size=8),
         dict(size=COUNT, train=FLAG, hflip=SHARE, color_jitter='None float 0 int3 huge', auto_augment='None',
              erase_prob=SHARE, crop_pct='float', crop='None')),
    # training
    Case('optim.sparing', lambda: dict(opt_func='adamw', model=mae())),
    Case('optim.scaled_lr', dict(lr=.1, rule='linear', batch=8, processes=1, steps=1), dict(lr=POSITIVE, rule='None',
                                                                                            batch='float ' + COUNT,
                                                                                            processes='None int3 huge', steps=COUNT)),
    Case('optim.cosine_schedule', dict(lrs=[.1], warmup=.1), dict(lrs=POSITIVE, warmup=RATE, min_lr=NOT_NEGATIVE,
                                                                  start_lr=NOT_NEGATIVE)),
    Case('optim.layer_rates', lambda: dict(groups=groups(), model=encoder(), lr=.1), dict(lr=POSITIVE, decay='float',
                                                                                          groups='[]')),
    Case('optim.moments', dict(opt_func='adamw', opt_kw=None),
         dict(opt_func=ANY, opt_kw='None', beta2=RATE)),                          # what is no name is judged by `sparing`
    Case('stepping.Accumulate', dict(), dict(steps=COUNT)),
    Case('stepping.EMA', dict(), dict(decay=RATE, warmup=FLAG)),
    Case('stepping.HalfPrecision', dict(), dict(init_scale=POSITIVE, growth_factor='int3 huge',
                                                backoff_factor='float', growth_interval=COUNT, enabled=FLAG,
                                                device=NOTHING)),
    Case('callbacks.MaskedLoss', lambda: dict(model=mae())),
    Case('callbacks.MeanLoss', lambda: dict(scoring=mae().scoring)),
    Case('callbacks.MaskedPretraining', dict(), dict(seed=SEED, baseline=FLAG)),
    Case('callbacks.CheckFirstBatch', dict(), dict(num_classes='None int3 huge')),
    Case('callbacks.FiniteLoss', dict()),
    Case('callbacks.ValidateEvery', dict(), dict(epochs=COUNT)),
    Case('callbacks.DropTokens', dict(), dict(ratio='float', seed=SEED)),
    Case('checkpoint.ExactCheckpoints', dict(folder='states'),
         dict(folder=TEXT, every='None int3 huge', epochs='None int3 huge', keep_last=COUNT, best='None text',
              resume=NOTHING, verbose=FLAG, lower='None True')),
    Case('checkpoint.Seeds', dict(), dict(seed=SEED, init='None ' + SEED, masks='None ' + SEED,
                                          dropout='None ' + SEED, shuffle='None ' + SEED, mixup='None ' + SEED)),
    Case('checkpoint.SeededSteps', dict(), dict(seed=SEED)),
    Case('checkpoint.SeededForward', dict(), dict(seed=SEED)),
    Case('checkpoint.checkpoints', dict(folder='states'), dict(folder=TEXT)),
    Case('logs.LogFile', dict(), dict(path=TEXT)),
    Case('logs.KeepCheckpoints', dict(), dict(folder=TEXT, monitor=TEXT, best=COUNT0, last=COUNT0, lower=FLAG,
                                              every=COUNT)),
    Case('logs.ReconstructionPictures', dict(), dict(every=COUNT, folder=TEXT, n=COUNT, seed=SEED)),
    Case('logs.WandbLog', dict(), dict(every=COUNT)),
    Case('probes.features', lambda: dict(model=encoder(), values=values), dict(pool='None'), call=lambda model,
         values, pool=None, **kw: features()(model, values, pool=pool, **kw)),
    Case('probes.embeddings', lambda: dict(model=encoder(), dl=loaders('images').valid), dict(pool='None',
                                                                                              n_inp='None')),
    Case('probes.linear_probe', dict(train_x=vectors, train_y=labels, valid_x=vectors, valid_y=labels, cs=(1.,),
                                     folds=2), dict(folds=COUNT, seed=SEED)),
    Case('probes.knn_probe', dict(train_x=vectors, train_y=labels, valid_x=vectors, valid_y=labels, k=3),
         dict(k=SMALL, temperature='None ' + POSITIVE, chunk=COUNT)),
    Case('probes.effective_rank', dict(x=vectors), dict(center=FLAG)),
    Case('probes.feature_spread', dict(x=vectors)),
    Case('probes.ProbeCallback', lambda: dict(train=loaders('images').train, valid=loaders('images').valid),
         dict(train='None', every=COUNT, k=COUNT, temperature='None ' + POSITIVE, pool='None', prefix=TEXT)),
    Case('probes.probe_learner', lambda: dict(dls=loaders('images'), model=encoder()), dict(num_classes='None int3',
                                                                                            base_lr=POSITIVE,
                                                                                            pool='None', metrics='None []')),
    Case('probes.as_probe', lambda: dict(model=encoder(), num_classes=2), dict(num_classes=SMALL, pool='None')),
    # Learners
    Case('learner.patch_size', dict(height=8, width=8), dict(height=COUNT, width=COUNT)),
    Case('learner.batch_geometry', dict(values=values)),
    Case('learner.task_loss', dict(task='classification'), dict(smoothing=RATE)),
    Case('learner.YesNoLoss', dict(), dict(smoothing=RATE, multi=FLAG)),
    Case('learner.pretrain_learner', lambda: dict(dls=loaders('images'), model='romae_tiny_shallow', encoder_kw=TINY,
                                                  verbose=False, **DECODER),
         MAE | FASTAI | BY_NAME | dict(seed=SEED, baseline=FLAG, cbs='None []', verbose=FLAG)),
    Case('learner.finetune_learner', lambda: dict(dls=loaders('images'), model='romae_tiny_shallow', verbose=False,
                                                  **TINY),
         FASTAI | BY_NAME | dict(num_classes='None int3', task='None', label_smoothing=RATE, cbs='None []',
                                 verbose=FLAG)),
    Case('learner.from_folder', lambda: dict(folder=saved(), dls=loaders('images'), verbose=False),
         dict(cbs='None []', verbose=FLAG), skip=dict(dls='None')),  # a folder of a model alone needs loaders
    Case('learner.probe_learner', lambda: dict(dls=loaders('images'), model=encoder()),
         FASTAI | dict(num_classes='None int3', pretrained=FLAG, base_lr=POSITIVE, pool='None',
                       wd='None ' + NOT_NEGATIVE, cbs='None []')),
    Case('learner.TokenLearner.fit_cosine', dict(n_epoch=1), dict(n_epoch=SMALL, lr='None ' + POSITIVE,
                                                                  warmup_epochs='0 float', warmup_steps='None 0',
                                                                  min_lr=NOT_NEGATIVE, layer_decay='None float',
                                                                  wd='None ' + NOT_NEGATIVE,
         cbs='None []', reset_opt=FLAG), call=lambda n_epoch=1, **kw: fitting().fit_cosine(n_epoch,
                                                                                           **kw), skip=dict(n_epoch='huge int3')),
    Case('learner.PretrainLearner.show_results', dict(), dict(ds_idx='0', max_n=COUNT, seed=SEED),
         call=lambda **kw: drawn(shown_learner().show_results(**kw))),
    # pictures
    Case('visualize.Picture', dict()),
    Case('visualize.rope_of', lambda: dict(model=rope())),
    Case('visualize.as_batch', dict(batch=values)),
    Case('visualize.position_rows', dict(positions=grid_at)),
    Case('visualize.axis_scales', lambda: dict(model=rope(), positions=grid_at)),
    Case('visualize.plot_wavelengths', lambda: dict(model=rope(), positions=grid_at)),
    Case('visualize.kernel', lambda: dict(model=rope(), distance=torch.rand(3)), dict(distance=NUMBER)),
    Case('visualize.plot_kernel', lambda: dict(models=rope(), positions=grid_at),
         dict(distance='None int3 float huge')),
    Case('visualize.similarity', lambda: dict(model=rope(), a=torch.rand(2, 3), b=torch.rand(2, 3))),
    Case('visualize.plot_similarity', lambda: dict(model=rope(), positions=grid_at), dict(query='None 0 -1 int3')),
    Case('visualize.plot_cls', lambda: dict(model=rope(), positions=grid_at)),
    Case('visualize.plot_masks', dict(mask=torch.rand(2, 4) > .5)),
    Case('visualize.plot_masks', dict(mask=torch.rand(2, 4) > .5, positions=grid_at)),
    Case('visualize.reconstruct', lambda: dict(mae=mae(), batch=values, n=1), dict(n=COUNT)),
    Case('visualize.plot_reconstruction', lambda: dict(mae=mae(), batch=values, n=1), dict(n=COUNT, channel='None 0',
                                                                                           frame='None 0')),
    Case('visualize.attention', lambda: dict(model=encoder(), batch=values, n=1), dict(n=COUNT, block='-1 0',
                                                                                       token='None 0 int3',
                                                                                       axis=NOTHING)),
    Case('visualize.plot_attention', lambda: dict(model=encoder(), batch=values, n=1), dict(n=COUNT, block='-1 0',
                                                                                            token='None 0 int3',
                                                                                            channel='None 0',
                                                                                            frame='None 0',
                                                                                            axis=NOTHING)),
]


def features():
    from romae_nb.probes import features
    return features

@cache
def pictures():
    "Two classes of two small pictures."
    from PIL import Image
    root = Path(tempfile.mkdtemp())
    for i in range(4):
        (root/str(i % 2)).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)).save(root/str(i % 2)/f'{i}.png')
    return root

@cache
def shards():
    from romae_nb.images import make_shards
    return [str(p) for p in make_shards(pictures(), tempfile.mkdtemp())]

@cache
def ts_file():
    path = Path(tempfile.mkdtemp())/'tiny.ts'
    path.write_text('@problemName tiny\n@timeStamps false\n@missing false\n@univariate true\n@equalLength true\n@seriesLength 3\n@classLabel true a b\n@data\n1,2,3:a\n2,3,4:b\n')
    return path

@cache
def vit():
    import timm
    return timm.create_model('test_vit', img_size=16, patch_size=8, num_classes=0)

@cache
def saved():
    from romae_nb.hub import save
    return save(mae(), tempfile.mkdtemp())

@cache
def groups():
    from romae_nb.optim import layer_groups
    return [list(g) for g in layer_groups(encoder()) if len(g)]

@cache
def fitting():
    learn = learner('finetune')
    learn.remove_cb(next(cb for cb in learn.cbs if type(cb).__name__ == 'ProgressCallback'))
    learn.logger = lambda *_: None
    return learn

@cache
def shown_learner(): return learner()

def drawn(_):
    import matplotlib.pyplot as plt
    plt.close('all')
