"What only a GPU can show: resuming with its random states, float16 with a scaler, two processes over NCCL. Skipped where there is none."
import os, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientClip
from fastai.optimizer import SGD

from romae_nb.checkpoint import ExactCheckpoints, Seeds, random_states
from romae_nb.data import IrregularDataset, dataloaders
from romae_nb.learner import pretrain_learner
from romae_nb.mae import MaskedAutoencoder
from romae_nb.masking import make_mask
from romae_nb.noise import RowNoise
from romae_nb.stepping import DTYPES, EMA, Accumulate, ActivationCheckpointing, HalfPrecision
from romae_nb.tubelets import Ragged

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
SCRIPT = Path(__file__).with_name('two_processes.py')
SMALL = dict(embed_dim=64, depth=2, num_heads=2, proj_drop_rate=.1)


def loaders(n=48, valid=16, device='cuda', **kw):
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 10, rng.integers(8, 17))) for _ in range(n)]
    data = IrregularDataset([np.sin(t)[:, None] for t in times], times, rng.integers(0, 2, n))
    return dataloaders(data, splits=(range(n - valid), range(n - valid, n)), bs=8, device=device, **kw)


def learner(*cbs, **kw):
    seeds = Seeds(1)
    learn = pretrain_learner(loaders(seed=seeds.shuffle, **kw), 'romae_tiny', encoder_kw=SMALL, decoder_dim=16, decoder_heads=2, decoder_depth=1,
                             seeds=seeds, verbose=False, cbs=cbs)
    learn.logger = lambda *_: None
    return learn


class Stop(Callback):
    "Breaks off in training."
    order, run_valid = 110, False
    def __init__(self, step): self.step = step
    def after_batch(self):
        if self.train_iter == self.step: raise KeyboardInterrupt


@pytest.mark.parametrize('precision', [(), ('bf16',), ('fp16',)], ids=str)
@pytest.mark.parametrize('layout', ['padded', 'ragged'])
def test_goes_on_where_it_stopped(tmp_path, layout, precision):
    "Random states, rates and what is drawn to the last bit; numbers nearly so, since some kernels add in any order."
    def fit(folder, *more):
        learn = learner(ExactCheckpoints(folder, every=1, verbose=False), ema := EMA(.9), Accumulate(2), *map(HalfPrecision, precision), layout=layout)
        with learn.no_bar(): learn.fit_one_cycle(3, 1e-3, cbs=list(more))
        return learn, ema, random_states()
    whole, average, states = fit(tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt): fit(tmp_path/'pieces', Stop(7))
    pieces, average_2, states_2 = fit(tmp_path/'pieces')
    assert all(a.equal(b) for a, b in zip(states['cuda'], states_2['cuda'], strict=True)) and states['torch'].equal(states_2['torch'])
    assert whole.recorder.lrs == pieces.recorder.lrs and len(whole.recorder.losses) == len(pieces.recorder.losses) == 12
    atol = 1e-2 if precision else 1e-4
    assert torch.allclose(torch.stack(whole.recorder.losses), torch.stack(pieces.recorder.losses), atol=atol)
    for a, b in ((whole.model, pieces.model), (average.averaged, average_2.averaged)):
        assert next(a.parameters()).is_cuda and all(torch.allclose(x, y, atol=atol) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_half_precision(precision):
    seen = set()
    learn = learner(HalfPrecision(precision), ActivationCheckpointing(), GradientClip())
    learn.model.encoder.blocks[0].attn.qkv.register_forward_hook(lambda m, i, o: seen.add((o.data if isinstance(o, Ragged) else o).dtype))
    with learn.no_bar(): learn.fit_one_cycle(2, 1e-3)
    assert seen == {DTYPES[precision]} and np.isfinite(learn.recorder.values).all() and not hasattr(learn, 'scaler')
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in learn.model.parameters())


def test_the_same_as_on_a_cpu():
    "One step of plain SGD, the same masks."
    def one(device):
        torch.manual_seed(0)
        mae = MaskedAutoencoder('romae_tiny', dict(SMALL, tubelet_size=(1, 1, 1), in_chans=1, n_pos_dims=1, proj_drop_rate=0.), decoder_dim=16, decoder_heads=2,
                                decoder_depth=1, mask_fn=lambda x, ratio, generator, positions: positions.like(positions.data[:, 0] > 5))
        learn = pretrain_learner(loaders(device=device, layout='ragged'), mae, opt_func=SGD, verbose=False)
        learn.logger = lambda *_: None
        with learn.no_bar(): learn.fit(1, 1e-2)
        return [p.detach().cpu() for p in learn.model.parameters()], learn.recorder.values
    (a, curve), (b, curve_2) = one('cpu'), one('cuda')
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(a, b)) and np.allclose(curve, curve_2, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_two_processes_with_nccl(tmp_path):
    "As test_two_processes.py, on two GPUs: both end with the same weights and curves."
    launch = [Path(sys.executable).parent/'torchrun', '--nproc-per-node', '2', '--standalone', SCRIPT, tmp_path, 'pretraining', 'classification', 'many_callbacks', 'rates']
    env = {k: v for k, v in os.environ.items() if k != 'ACCELERATE_USE_CPU'} | dict(PYTHONPATH=str(SCRIPT.parents[2]), PYTHONWARNINGS='ignore')
    done = subprocess.run(list(map(str, launch)), capture_output=True, text=True, timeout=1800, env=env)
    assert not done.returncode, done.stderr[-4000:]
    for name in ('pretraining', 'classification', 'many_callbacks', 'rates'):
        a, b = (torch.load(tmp_path/f'{name}-{r}.pt', weights_only=False, map_location='cpu') for r in (0, 1))    # written by ourselves a moment ago
        assert a['curve'] == b['curve'] and np.isfinite(a['curve']).all() and all(v.equal(b['weights'][k]) for k, v in a['weights'].items())


@pytest.mark.parametrize('kind', ['random', 'span', 'tube', 'per_channel'])
def test_samples_hide_the_same_on_a_gpu_and_on_a_cpu(kind):
    "Numbers that belong to samples know no device; layouts, too."
    rows = Ragged.from_rows([torch.randint(0, 5, (n, 2)).double() for n in (40, 7, 23)])
    fn = make_mask(kind)
    masks = [fn(x, .6, RowNoise([5, 0, 9], 3, x.device), x).data.cpu() for x in (rows, rows.to('cuda'))]
    assert masks[0].equal(masks[1]) and masks[0].any()
