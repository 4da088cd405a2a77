"The whole path on real data, in a short form: pre-train, probe, fine-tune, save, and load in a fresh process through timm, with the same predictions."
import os, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from aeon.datasets import load_classification
from fastai.callback.progress import ProgressCallback
from sklearn.datasets import load_digits

from romae_nb.data import GridDataset, IrregularDataset, Scaling, dataloaders, model_inputs
from romae_nb.hub import load
from romae_nb.learner import finetune_learner, pretrain_learner, probe_learner

ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(embed_dim=48, depth=2, num_heads=2)
DECODER = dict(decoder_dim=32, decoder_heads=2, decoder_depth=1)


def series(name):
    "A data set that aeon ships: training and test part, times counted from 0."
    x, y = load_classification(name)
    rows = [np.asarray(v).T for v in x]                                                  # (channels, steps) -> (steps, channels)
    rng = np.random.default_rng(0)
    at = [np.sort(rng.choice(len(r), max(len(r) * 2 // 3, 4), replace=False)) for r in rows]     # a third of the steps is not observed
    ds = IrregularDataset([r[i] for r, i in zip(rows, at)], [i.astype(float) for i in at], np.asarray(y).astype(str))
    order = rng.permutation(len(ds))
    return ds, order[:len(ds) * 3 // 4], order[len(ds) * 3 // 4:]


def basic_motions(): return series('BasicMotions')


def japanese_vowels():
    ds, train, valid = series('JapaneseVowels')
    return ds, train[:200], valid[:80]


def four_digits(n):
    "0 to 3, the first `n`."
    d = load_digits(n_class=4)
    return d.images[:n], d.target[:n], np.arange(n - 100), np.arange(n - 100, n)


def digits_as_images():
    images, y, *parts = four_digits(500)
    return GridDataset(images[:, None], y), *parts


def digits_as_points():
    "The pixels that are not empty, as tokens at their rows and columns."
    images, y, *parts = four_digits(340)
    inked = [np.argwhere(image > 0) for image in images]
    return IrregularDataset([image[tuple(at.T)] for image, at in zip(images, inked)], [at.astype(float) for at in inked], y), *parts


def quiet(learn):
    learn.remove_cb(ProgressCallback)
    learn.logger = lambda *_: None
    return learn


ELSEWHERE = """
import sys, timm, torch, romae_nb
from romae_nb.datasets import GridDataset, IrregularDataset, Part, model_inputs
from romae_nb.scaling import Scaling
raw = torch.load(sys.argv[2], weights_only=True)
new = Part((IrregularDataset if 'positions' in raw else GridDataset)(**raw), scaling=Scaling.load(sys.argv[1]))
model = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval()     # timm's own ViTs load weights only when told to
with torch.no_grad(): torch.save(model(*model_inputs(new.collate(list(new)))), sys.argv[3])
assert 'fastai' not in sys.modules
"""


def elsewhere(folder, part, tmp):
    "Logits for samples as the data has them, from a process that knows nothing but the folder of a classifier."
    raw = [part.dataset.inputs(i) for i in part.indices]
    torch.save(dict(values=[v for v, *_ in raw]) | (dict(positions=[p for _, p in raw]) if part.irregular else {}), tmp/'in.pt')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', ELSEWHERE, str(folder), str(tmp/'in.pt'), str(tmp/'out.pt')],
                          capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert not done.returncode, done.stderr[-3000:]
    return torch.load(tmp/'out.pt', weights_only=True)


@pytest.mark.parametrize('data, model, epochs', [(basic_motions, 'romae_tiny_shallow', 8), (japanese_vowels, 'romae_tiny_shallow', 7),
                                                 (digits_as_images, 'vit_tiny_patch16_224', 6), (digits_as_points, 'romae_tiny_shallow', 6)])
def test_whole_path(data, model, epochs, tmp_path):
    torch.manual_seed(0)
    ds, train, valid = data()
    dls = dataloaders(ds, splits=(train, valid), bs=20, scaling='fit', device='cpu', path=tmp_path)
    patch = dict(patch_size=2) if model.startswith('vit') else {}
    learn = quiet(pretrain_learner(dls, model, mask_ratio=.5, encoder_kw=SMALL | patch, verbose=False, **DECODER))
    untrained, mean_loss = learn.validate()
    learn.fit_one_cycle(epochs, 4e-3)
    assert learn.recorder.values[-1][1] < min(.9 * untrained, mean_loss), (untrained, learn.recorder.values[-1])
    pretrained = learn.save_model(tmp_path/'pretrained')

    probe = quiet(probe_learner(dls, learn.model, 'sgd', pool='avg'))
    probe.fit_probe(10, .1)
    chance = max(np.bincount(ds.labels[train])) / len(train)
    assert probe.recorder.values[-1][2] > 1.3 * chance

    again = dataloaders(ds, splits=(train, valid), bs=20, scaling=Scaling.load(pretrained), device='cpu', path=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        clf = quiet(finetune_learner(again, pretrained, global_pool='avg', verbose=False))
    clf.fit_one_cycle(epochs + 2, 4e-3)
    assert clf.recorder.values[-1][2] > 2 * chance, clf.recorder.values[-1]

    folder = clf.save_model(tmp_path/'classifier')
    part = clf.dls.valid.dataset
    inputs = model_inputs(clf.dls.valid.create_batch([part[i] for i in range(len(part))])[:clf.dls.n_inp])
    with torch.no_grad(): here = clf.model.eval()(*inputs)
    assert elsewhere(folder, part, tmp_path).equal(here)
    assert load(folder)(*inputs).allclose(here) and Scaling.load(folder) == dls.train.scaling
