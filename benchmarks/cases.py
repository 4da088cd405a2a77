"""What is timed: each case makes its data and models, and hands out one step a side."""
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory

import timm
import torch
import torch.nn.functional as F
from timm.layers import RmsNorm
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import romae_nb.romae  # noqa: F401, registers the models
from romae_nb.encoder import ENCODER_SIZES
from romae_nb.hub import from_reference
from romae_nb.mae import MaskedAutoencoder
from romae_nb.masking import random_mask
from romae_nb.positions import grid_positions
from romae_nb.tubelets import Ragged
from benchmarks.reference import Reference, write

TINY = ENCODER_SIZES['romae_tiny']
CLASSES = 20
IMAGE = dict(tubelet_size=(1, 16, 16), in_chans=3, n_pos_dims=2)
SERIES = dict(tubelet_size=(1, 1, 1), in_chans=2, n_pos_dims=2)


@dataclass
class Case:
    "A row of the table."
    title:str                  # for people
    make:callable              # (reference or None, setting) -> {name: step}, `ours` first
    against:str='reference'    # the side whose time stands over ours
    at_least:float|None=None   # ratio that must be reached; None: nothing is asked
    aim:float|None=None        # ratio that is hoped for


@dataclass
class Setting:
    "What all cases share."
    device:str='cpu'
    half:bool=False            # bf16 autocast, on both sides
    compiled:bool=False        # torch.compile, on both sides
    size:dict=field(default_factory=lambda: TINY)

    def autocast(self): return torch.autocast(self.device, torch.bfloat16, enabled=self.half)
    def ready(self, model):
        model = model.to(self.device)
        if self.compiled: model.compile(dynamic=True)
        return model
    def optimizer(self, model): return torch.optim.AdamW(model.parameters(), 1e-4, fused=True)     # the same for both sides


# ---- data

def lengths_of(
    rows:int,     # series
    longest:int,  # of them
    fill:float,   # real tokens over those of the rectangle
) -> list[int]:   # from short to `longest`, evenly spread over longest * u ** k, whose mean is fill * longest
    "Lengths as uneven as those of light curves."
    k = 1 / fill - 1
    n = [max(round(longest * ((i + .5) / rows)**k), 1) for i in range(rows)]
    n[-1] = longest
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(1)).tolist()
    return [n[i] for i in order]


@dataclass
class Batch:
    "One batch as each side takes it: a rectangle with padding, and packed. Values and places are the same."
    values:torch.Tensor     # (B, N, C)
    positions:torch.Tensor  # (B, D, N)
    pad_mask:torch.Tensor   # (B, N)
    mask:torch.Tensor       # (B, N), as many hidden in every row: what the reference takes

    @property
    def full(self): return not self.pad_mask.any()
    @property
    def fill(self): return (~self.pad_mask).float().mean().item()

    def ours(self):
        "Values, positions, mask: packed where there is padding, as our collate does; else rectangles."
        if self.full: return self.values, self.positions, self.mask
        packed = lambda x: Ragged.from_padded(x, self.pad_mask)
        return packed(self.values), packed(self.positions.transpose(1, 2).contiguous()), packed(self.mask)

    def theirs(self):
        "Keywords of the reference; without padding it gets no pad_mask, which is its fastest."
        b, n, c = self.values.shape
        return dict(values=self.values.view(b, n, c, 1, 1), positions=self.positions, mask=self.mask, pad_mask=None if self.full else self.pad_mask)


def level(mask, pad_mask):
    "Hide trailing padding until every row hides equally many, as the reference must."
    missing = mask.sum(1).max() - mask.sum(1)
    from_the_end = torch.arange(mask.shape[1] - 1, -1, -1, device=mask.device)
    return mask | (from_the_end < missing.unsqueeze(1)) & pad_mask


def series(rows=32, longest=256, fill=.37, ratio=.4, channels=2, axes=2, device='cpu', seed=0) -> Batch:
    "Irregular series: values and times at random, a few channels."
    g = torch.Generator().manual_seed(seed)
    pad = torch.arange(longest) >= torch.tensor(lengths_of(rows, longest, fill)).unsqueeze(1)
    if fill == 1: pad = torch.zeros_like(pad)
    values = torch.randn(rows, longest, channels, generator=g).masked_fill(pad.unsqueeze(-1), 0)
    positions = (100 * torch.rand(rows, axes, longest, generator=g)).masked_fill(pad.unsqueeze(1), 0)
    mask = level(random_mask(~pad, ratio, g), pad)
    return Batch(*(x.to(device) for x in (values, positions, pad, mask)))


# ---- steps

def pair(reference:Reference, theirs, setting):
    "The reference's model, and ours with the same weights."
    with TemporaryDirectory() as d: ours = from_reference(write(theirs, d), reference_mean=True)
    return setting.ready(ours), setting.ready(theirs)


def train(model, optimizer, loss, setting):
    "One training step: forward, backward, AdamW."
    def step():
        with setting.autocast(): l = loss(model)
        optimizer.zero_grad()
        l.backward()
        optimizer.step()
        return l.detach()
    return step


def check_same(ours, theirs, tolerance=1e-4):
    "Before a clock runs, both sides must compute the same."
    with torch.no_grad(): a, b = ours().float(), theirs().float()
    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance): raise AssertionError(f'the two sides do not agree: {a} and {b}')


def mae_of(setting, sizes):
    kw = dict(sizes, embed_dim=setting.size['d_model'], depth=setting.size['depth'], num_heads=setting.size['nhead'])
    return setting.ready(MaskedAutoencoder('romae_tiny', kw, decoder_attention='all'))       # the reference's


def pretrain_sides(reference, setting, ours_args, theirs_args, sizes, check):
    "A pre-training step of both."
    values, positions, mask = ours_args
    if reference is None: ours = mae_of(setting, sizes)
    else: ours, theirs = pair(reference, reference.pretraining(setting.size, **sizes), setting)
    loss = lambda m: m.loss(m(values, positions, mask=mask), values, mask=mask)
    sides = dict(ours=train(ours.train(), setting.optimizer(ours), loss, setting))
    if reference is None: return sides
    if check: check_same(lambda: loss(ours), lambda: theirs(**theirs_args)[1])
    return sides | dict(reference=train(theirs.train(), setting.optimizer(theirs), lambda m: m(**theirs_args)[1], setting))


def pretrain_series(reference, setting, check=True, **kw):
    batch = series(device=setting.device, **kw)
    return pretrain_sides(reference, setting, batch.ours(), batch.theirs(), SERIES, check and batch.full and not setting.half)


def images(n=16, side=224, device='cpu', seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed)).to(device)


def pretrain_images(reference, setting, n=16, side=224, ratio=.75):
    values, g = images(n, side, setting.device), torch.Generator().manual_seed(0)
    places = grid_positions((1, side // 16, side // 16), 2).expand(n, 2, -1).to(setting.device)
    mask = random_mask(torch.ones(n, places.shape[-1], dtype=torch.bool), ratio, g).to(setting.device)
    theirs = dict(values=values.unsqueeze(1), positions=places, mask=mask)
    return pretrain_sides(reference, setting, (values, None, mask), theirs, IMAGE, check=not setting.half)


def classify_series(reference, setting, **kw):
    "Inference."
    batch = series(device=setting.device, **kw)
    values, positions, _ = batch.ours()
    args = {k: v for k, v in batch.theirs().items() if k != 'mask'}
    size = dict(embed_dim=setting.size['d_model'], depth=setting.size['depth'], num_heads=setting.size['nhead'])
    if reference is None: ours = setting.ready(timm.create_model('romae_tiny', num_classes=CLASSES, **SERIES, **size))
    else: ours, theirs = pair(reference, reference.classifier(setting.size, CLASSES, **SERIES), setting)
    def infer(f):
        def step():
            with torch.inference_mode(), setting.autocast(): return f()
        return step
    ours.eval()
    sides = dict(ours=infer(lambda: ours(values, positions)))
    if reference is None: return sides
    theirs.eval()
    sides['reference'] = infer(lambda: theirs(**args)[0])
    if not setting.half: check_same(*sides.values())
    return sides


def draw_masks(reference, setting, rows=256, longest=256, ratio=.4):
    pad = series(rows, longest, .37, ratio).pad_mask
    g = torch.Generator().manual_seed(0)
    sides = dict(ours=lambda: random_mask(~pad, ratio, g))
    if reference is not None: sides['reference'] = lambda: reference.mask(ratio, pad)
    return sides


def train_on_images(reference, setting, n=16, side=224):
    "Classification, all tokens: ours, timm's rotary ViT of the same parts, and its plain ViT."
    x, y = images(n, side, setting.device), torch.arange(n, device=setting.device) % CLASSES
    s = dict(embed_dim=setting.size['d_model'], depth=setting.size['depth'], num_heads=setting.size['nhead'])
    common = dict(img_size=side, patch_size=16, num_classes=CLASSES, qkv_bias=False, **s)
    models = dict(
        ours=timm.create_model('romae_tiny', num_classes=CLASSES, **s),
        timm_rotary=Eva(use_rot_pos_emb=True, use_abs_pos_emb=False, norm_layer=RmsNorm, global_pool='token', **common),
        timm_plain=VisionTransformer(**common))
    loss = lambda m: F.cross_entropy(m(x), y)
    ready = {k: setting.ready(m).train() for k, m in models.items()}
    return {k: train(m, setting.optimizer(m), loss, setting) for k, m in ready.items()}


def packed(lengths, setting, ratio=.4):
    "A pre-training step of ours on rows of these lengths."
    g = torch.Generator().manual_seed(0)
    values = Ragged.from_rows(list(torch.randn(sum(lengths), 2, generator=g).split(lengths)))
    positions = values.like(100 * torch.rand(values.shape[0], 2, generator=g))
    args = [x.to(setting.device) for x in (values, positions, random_mask(values, ratio, g))]
    return pretrain_sides(None, setting, args, None, SERIES, False)['ours']


def shallow(setting): return replace(setting, size=ENCODER_SIZES['romae_tiny_shallow'])


def tiny_rows(_, setting, rows=10_000, longest=250):
    "Very many rows of 3 tokens, and the same number of tokens in long rows."
    return dict(ours=packed([3] * rows, shallow(setting)), long_rows=packed([longest] * max(3 * rows // longest, 1), shallow(setting)))


def huge_row(_, setting, rows=256, longest=4096):
    "One long row among rows of 3 tokens, and the long row alone."
    return dict(ours=packed([3] * (rows // 2) + [longest] + [3] * (rows // 2), shallow(setting)), alone=packed([longest], shallow(setting)))


def attention_dropout(_, setting, **kw):
    "Attention dropout, which no kernel for packed rows knows, and the same model without."
    args = series(device=setting.device, fill=.37, **kw).ours()
    return {name: pretrain_sides(None, setting, args, None, SERIES | dict(attn_drop_rate=rate), False)['ours'] for name, rate in dict(ours=.1, without=0.).items()}


def series_case(**kw): return lambda reference, setting, **small: pretrain_series(reference, setting, **kw | small)


CASES = {
    'series_37': Case('pre-training step, 32 series up to 256 long, 37% real, 40% hidden', series_case(fill=.37), at_least=3., aim=3.5),
    'series_15': Case('the same at 15% real', series_case(fill=.15), at_least=6., aim=7.),
    'series_100': Case('the same at 100% real', series_case(fill=1.), at_least=1.1, aim=1.25),
    'images': Case('pre-training step, 224 px images, batch 16, 75% hidden', pretrain_images, at_least=1.1, aim=1.25),
    'classify_37': Case('classification, inference, 32 series, 37% real', classify_series, at_least=2.7, aim=3.2),
    'masks': Case('drawing masks for 256 x 256 tokens, lengths mixed', draw_masks, at_least=20., aim=40.),
    'timm': Case("training step on images, all tokens, against timm's rotary ViT", train_on_images, 'timm_rotary', at_least=1 / 1.1, aim=1.),
    'dropout': Case('pre-training step, 37% real, attention dropout 0.1', attention_dropout, 'without'),
    'one_row': Case('pre-training step, one row of 256 tokens', series_case(rows=1, fill=1.)),
    'tiny_rows': Case('pre-training step, 10,000 rows of 3 tokens, romae_tiny_shallow', tiny_rows, 'long_rows'),
    'huge_row': Case('pre-training step, one row of 4096 tokens among 256 of 3, romae_tiny_shallow', huge_row, 'alone'),
}
