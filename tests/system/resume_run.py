"""A training script as a user would write one, for test_resume.py to kill and start again: pre-training, then fine-tuning with `fine_tune`.

    python tests/system/resume_run.py FOLDER EPOCHS                                  # or, with two processes:
    torchrun --nproc-per-node 2 tests/system/resume_run.py FOLDER EPOCHS

Leaves FOLDER/result-RANK.json: digests of all weights and optimizer states, and the recorded curves. SLOW_WRITES=0.01 makes every write to the
disk take that many seconds longer, so that kills land within writes. `FOLDER/started` appears when training begins."""
import hashlib, json, os, sys, time
from pathlib import Path

import numpy as np
import torch
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.torch_core import set_seed
from torch import distributed as dist

from romae_nb import checkpoint
from romae_nb.augment import MixSamples
from romae_nb.callbacks import DropTokens
from romae_nb.checkpoint import ExactCheckpoints, Seeds
from romae_nb.data import IrregularDataset, dataloaders
from romae_nb.distributed import distributed
from romae_nb.learner import finetune_learner, pretrain_learner
from romae_nb.stepping import EMA, Accumulate

RANK = int(os.environ.get('RANK', 0))


def sines(n=64):
    rng = np.random.default_rng(0)
    labels, times = rng.integers(0, 2, n), [np.sort(rng.uniform(0, 10, rng.integers(8, 17))) for _ in range(n)]
    angles = [(1 + y) * t + a for y, t, a in zip(labels, times, rng.uniform(0, 6, n))]
    return IrregularDataset([np.stack([np.sin(a), np.cos(a)], 1) for a in angles], times, labels)


def digest(tree):
    tensors = {}
    text = json.dumps(checkpoint.pack(tree, tensors))
    h = hashlib.sha256(text.encode())
    for k in sorted(tensors): h.update(k.encode() + tensors[k].numpy().tobytes())
    return h.hexdigest()


def outcome(learn):
    r = learn.recorder
    return dict(model=digest(dict(learn.model.state_dict())), optimizer=digest(learn.opt.state_dict()), losses=[x.item() for x in r.losses],
                values=[list(map(float, v)) for v in r.values], lrs=list(map(float, r.lrs)), random=digest(checkpoint.random_states()),
                drawn=digest({n: checkpoint.callback_state(cb)['generators'] for n, cb in checkpoint.named_callbacks(learn).items()}))


def main(folder, epochs):
    folder, epochs = Path(folder), int(epochs)
    torch.set_num_threads(1)
    set_seed(0)                                                       # the global streams: nothing of ours draws from them, but they are compared too
    if slow := float(os.environ.get('SLOW_WRITES', 0)):
        flush = checkpoint.flush
        checkpoint.flush = lambda path: (time.sleep(slow), flush(path))
    seeds = Seeds(1)
    dls = dataloaders(sines(), splits=(range(48), range(48, 64)), bs=8, seed=seeds.shuffle, device='cpu')
    small = dict(embed_dim=16, depth=1, num_heads=2, proj_drop_rate=.1)

    def saving(name): return [ExactCheckpoints(folder/name, every=1), *seeds.callbacks()]
    with seeds.initialising():
        learn = pretrain_learner(dls, 'romae_tiny', decoder_dim=16, decoder_depth=1, decoder_heads=2, encoder_kw=small, verbose=False)
    learn.add_cbs(saving('pretrain'))
    learn.add_cbs([DropTokens(.2, seed=3), Accumulate(2)])
    learn.logger = lambda *_: None
    (folder/'started').touch()
    with distributed(learn), learn.no_bar(): learn.fit_one_cycle(epochs, 1e-3)
    results = [outcome(learn)]

    with seeds.initialising(): clf = finetune_learner(dls, learn.model, verbose=False, groups='head', proj_drop_rate=.2)
    clf.add_cbs(saving('finetune'))
    clf.add_cbs([EarlyStoppingCallback(patience=epochs), MixSamples(seed=4), EMA(.9)])
    clf.logger = lambda *_: None
    with distributed(clf), clf.no_bar(): clf.fine_tune(epochs // 2, 1e-2)
    results += [outcome(clf)]
    tmp = folder/f'.result-{RANK}'
    tmp.write_text(json.dumps(results))
    tmp.rename(folder/f'result-{RANK}.json')
    if dist.is_initialized(): dist.destroy_process_group()


if __name__ == '__main__': main(*sys.argv[1:])
