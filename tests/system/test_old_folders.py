"What the package of commit 9f645e9 wrote still loads, predicts the same numbers, and goes on training."
import importlib.util
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import timm
import torch

from romae_nb.checkpoint import ExactCheckpoints
from romae_nb.hub import load
from romae_nb.logs import KeepCheckpoints
from romae_nb.scaling import Scaling

HERE = Path(__file__).parents[1]/'fixtures'/'9f645e9'
spec = importlib.util.spec_from_file_location('old_folders', HERE/'make.py')
old = importlib.util.module_from_spec(spec)
spec.loader.exec_module(old)
old.finetune_learner = partial(old.finetune_learner, rope='paper')           # what its commands meant: defaults have changed since
old.pretrain_learner = partial(old.pretrain_learner, rope='paper', decoder_attention='all')
EXPECTED = json.loads((HERE/'expected.json').read_text())


def close(got, want, atol=1e-5, rtol=1e-4): torch.testing.assert_close(torch.tensor(got), torch.tensor(want), atol=atol, rtol=rtol)


def test_a_pretrained_model():
    scaling = Scaling.load(HERE/'pretrained')
    close(old.masked_predictions(load(HERE/'pretrained'), scaling), EXPECTED['pretrained'])


@pytest.mark.parametrize('made', [load, lambda folder: timm.create_model(f'local-dir:{folder}', pretrained=True),
                                  lambda folder: timm.create_model(f'local-dir:{folder}')])
def test_a_classifier(made):
    model = made(HERE/'classifier')
    close(old.class_predictions(model, Scaling.load(HERE/'classifier')), EXPECTED['classifier'])
    assert model.pretrained_cfg['label_names'] == old.NAMES


def test_a_classifier_from_the_pretrained_one():
    learn = old.finetune_learner(old.loaders(old.Seeds(1), scaling=Scaling.load(HERE/'pretrained')), HERE/'pretrained', verbose=False)
    want = load(HERE/'pretrained').encoder.state_dict()
    got = learn.model.state_dict()
    assert all(torch.equal(got[k], want[k]) for k in want if not k.startswith(('head', 'fc_norm')))


@pytest.fixture
def copy(tmp_path):
    def of(name): return Path(shutil.copytree(HERE/name, tmp_path/name))
    return of


def test_a_broken_off_fine_tuning_goes_on_to_the_same_end(copy, capsys):
    run = copy('classifier-run')
    learn = old.fit(old.classifier(cbs=[ExactCheckpoints(run, every=1, keep_last=1)]))
    assert 'going on from fit-00-epoch-0001-batch-000003' in capsys.readouterr().out
    got, want = old.outcome(learn), EXPECTED['classifier-run']
    same = dict(atol=2e-4, rtol=2e-3)        # values are scaled in float64 since then, and steps of Adam make more of the last place
    close(got['losses'], want['losses'], **same)
    for k, v in want['model'].items(): close(got['model'][k], v, **same)


def test_a_broken_off_pretraining_goes_on(copy, capsys):
    run = copy('pretraining-run')
    learn = old.fit(old.pretraining([ExactCheckpoints(run, every=1, keep_last=1), KeepCheckpoints('kept')], run))
    assert 'going on from fit-00-epoch-0001-batch-000003' in capsys.readouterr().out
    got, want = old.outcome(learn), EXPECTED['pretraining-run']
    close(got['losses'][:7], want['losses'][:7])
    assert len(got['losses']) == len(want['losses']) and max(abs(a - b) for a, b in zip(got['losses'], want['losses'])) < .3
    assert learn.keep_checkpoints.best.is_dir() and (run/'fit-00-end').is_dir()
