"""What test_two_processes.py runs, in this file's `main` by several processes, and by itself in one: the same fits, with `bs` twice as large.

    torchrun --nproc-per-node 2 two_processes.py FOLDER [SCENARIO ...]
"""
import sys, warnings
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger, ProgressCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.metrics import F1Score, accuracy
from fastai.optimizer import SGD
from fastai.torch_core import num_distrib, rank_distrib
from torch.utils.data import IterableDataset

from romae_nb.callbacks import DropTokens
from romae_nb.data import IrregularDataset, dataloaders
from romae_nb.distributed import distributed
from romae_nb.learner import finetune_learner, pretrain_learner
from romae_nb.logs import KeepCheckpoints, LogFile, ReconstructionPictures
from romae_nb.mae import MaskedAutoencoder
from romae_nb.stepping import EMA, Accumulate, ActivationCheckpointing, HalfPrecision

SHAPE = dict(tubelet_size=(1, 1, 1), in_chans=1, n_pos_dims=1, embed_dim=24, depth=2, num_heads=2)


def per_process(whole, processes): return whole // processes


def series(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    times = [np.sort(rng.uniform(0, 10, rng.integers(5, 12))) for _ in range(n)]
    return IrregularDataset([np.sin((1 + c) * t)[:, None] for c, t in zip(y, times)], times, y)


def loaders(n, bs, valid=13, layout='ragged', **kw):
    "Validation batches are the same however many processes there are."
    return dataloaders(series(n + valid), splits=(range(n), range(n, n + valid)), bs=bs, val_bs=4, device='cpu', layout=layout, **kw)


def by_value(x, ratio, generator, positions):
    "A mask that depends on tokens only; rows and batches hide different numbers of them."
    hide = x.data[:, 0] < .2
    hide[x.offsets[:-1]] = False
    return x.like(hide)


def quiet(learn):
    learn.remove_cb(ProgressCallback)
    learn.logger = lambda *_: None
    return learn


def weights(learn): return {k: v.clone() for k, v in learn.model.state_dict().items()}


def curves_of(learn):
    "What the recorder has, before the next validation overwrites it."
    return dict(curve=[list(map(float, v)) for v in learn.recorder.values], losses=[float(x) for x in learn.recorder.losses])


def pretraining(processes, folder, n=29, mask_fn=by_value, layout='ragged', cbs=None):
    torch.manual_seed(0 if processes == 1 else rank_distrib())        # the first process's weights are everybody's
    mae = MaskedAutoencoder('romae_tiny_shallow', SHAPE, decoder_dim=16, decoder_heads=2, decoder_depth=1, mask_fn=mask_fn)
    learn = quiet(pretrain_learner(loaders(n, per_process(8, processes), layout=layout), mae, opt_func=SGD, wd=.1, verbose=False, cbs=cbs))
    with distributed(learn):
        learn.fit(2, .05)
        curves = curves_of(learn)
        preds, targets = learn.get_preds()
    return dict(**curves, weights=weights(learn), preds=list(preds), values=list(targets[0]))


def left_over(processes, folder): return pretraining(processes, folder, n=25)    # the last batch has a single sample


def drawn_masks(processes, folder):
    "Masks as they come by default, and tokens left out: both belong to samples, whoever has them."
    return pretraining(processes, folder, mask_fn='random', cbs=DropTokens(.2, seed=3))


def classification(processes, folder):
    torch.manual_seed(0)
    micro = Accumulate(2) if processes > 1 else None
    learn = quiet(finetune_learner(loaders(27, 8 if processes == 1 else 2), 'romae_tiny_shallow', opt_func=SGD, verbose=False,
                                   metrics=[accuracy, F1Score(average='macro')], cbs=micro, **{k: SHAPE[k] for k in ('embed_dim', 'depth', 'num_heads')}))
    with distributed(learn):
        learn.freeze(); learn.fit(1, .1)
        learn.unfreeze(); learn.fit(2, .1)
        curves = curves_of(learn)
        validated = list(learn.validate())
        preds, y, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    return dict(**curves, weights=weights(learn), validated=validated, preds=preds, y=y, decoded=decoded, losses_each=losses)


def many_callbacks(processes, folder):
    "One process writes; everything at once runs."
    learn = quiet(pretrain_learner(loaders(20, 4, path=folder), 'romae_tiny_shallow', encoder_kw={k: SHAPE[k] for k in ('embed_dim', 'depth', 'num_heads')},
                                   decoder_dim=16, decoder_heads=2, decoder_depth=1, verbose=False))
    before = state(learn)
    cbs = [EMA(.9), HalfPrecision(), Accumulate(2), ActivationCheckpointing(), DropTokens(.2), KeepCheckpoints('kept'), LogFile(), CSVLogger(),
           ReconstructionPictures(every=1)]
    with distributed(learn): learn.fit(2, 1e-3, cbs=cbs)
    return dict(**curves_of(learn), weights=weights(learn), same=state(learn) == before)


def state(learn): return [type(cb).__name__ for cb in learn.cbs], id(learn.model), id(learn.logger), id(learn.loss_func), str(learn.dls.device)


class Randoms(Callback):
    "Notes masks of the first batch, and what dropout would draw."
    order = 21
    def before_batch(self):
        if self.training and not hasattr(self, 'seen'): self.seen = self.learn.xb[3].data.clone(), torch.rand(4)


def randomness(processes, folder):
    torch.manual_seed(0)
    learn = quiet(pretrain_learner(loaders(16, 4), 'romae_tiny_shallow', encoder_kw={k: SHAPE[k] for k in ('embed_dim', 'depth', 'num_heads')},
                                   decoder_dim=16, decoder_heads=2, decoder_depth=1, verbose=False))
    with distributed(learn): learn.fit(1, 1e-3, cbs=(r := Randoms()))
    return dict(seen=r.seen)


def rates(processes, folder):
    "A look for a rate, between two fits."
    torch.manual_seed(0)
    learn = quiet(pretrain_learner(loaders(29, per_process(8, processes), path=folder), MaskedAutoencoder(
        'romae_tiny_shallow', SHAPE, decoder_dim=16, decoder_heads=2, decoder_depth=1, mask_fn=by_value), opt_func='sgd', wd=.1, verbose=False))
    with distributed(learn):
        learn.fit_cosine(1, .01)
        before = weights(learn)
        found = learn.lr_find(start_lr=1e-4, end_lr=.1, num_it=13, show_plot=False, stop_div=False)
        rates, same = [float(x) for x in learn.recorder.lrs], all(v.equal(before[k]) for k, v in weights(learn).items())
        tried = curves_of(learn)['losses']
        learn.fit_cosine(1, .01)
    assert not hasattr(learn, 'rate_trial') and not list(Path(folder).rglob('*.pth'))
    return dict(**curves_of(learn), weights=weights(learn), rates=rates, tried=tried, same=same, found=found.valley)


class Shards(IterableDataset):
    "Samples of this process alone: 20 for the first, 12 for the second."
    def __len__(self): return 20
    def __iter__(self):
        g = torch.Generator().manual_seed(rank_distrib())
        for _ in range(20 - 8 * rank_distrib()): yield torch.randn(1, 8, 8, generator=g), torch.randint(3, (), generator=g)


def unequal(processes, folder):
    "Loaders that end after different numbers of batches."
    dls = DataLoaders(DataLoader(Shards(), bs=4), DataLoader(Shards(), bs=4), device='cpu')
    learn = quiet(finetune_learner(dls, 'romae_tiny_shallow', num_classes=3, verbose=False, embed_dim=24, depth=2, num_heads=2))
    steps = []
    with distributed(learn): learn.fit(2, 1e-3, cbs=Callback(after_step=lambda self: steps.append(self.iter)))
    return dict(steps=steps, curve=learn.recorder.values)


def precision(processes, folder):
    "What `accelerate launch` was told of precision, and whether it said that it starts one process where two were asked for."
    torch.manual_seed(0)
    learn = quiet(finetune_learner(loaders(8, 2), 'romae_tiny_shallow', opt_func=SGD, verbose=False, **{k: SHAPE[k] for k in ('embed_dim', 'depth', 'num_heads')}))
    seen = set()
    learn.model.blocks[0].mlp.fc1.register_forward_hook(lambda module, inputs, out: seen.add(str(out.dtype)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with distributed(learn): learn.fit(1, .1)
    return dict(processes=processes, dtypes=seen, warned=[str(w.message) for w in caught if 'num_processes' in str(w.message)])


SCENARIOS = {f.__name__: f for f in (pretraining, left_over, drawn_masks, classification, many_callbacks, randomness, unequal, rates, precision)}


def main(folder, *names):
    for name in names or SCENARIOS:
        (Path(folder)/name).mkdir(exist_ok=True)
        torch.save(SCENARIOS[name](num_distrib() or 1, Path(folder)/name), Path(folder)/f'{name}-{rank_distrib()}.pt')


if __name__ == '__main__': main(*sys.argv[1:])
