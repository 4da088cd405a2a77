"Two processes against one with batches twice as large, for scripts started by torchrun and by accelerate."
import json, os, subprocess, sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name('two_processes.py')
BIN = Path(sys.executable).parent
SETTINGS = dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', MPLBACKEND='agg', PYTHONWARNINGS='ignore', PYTHONPATH=str(SCRIPT.parents[2]))
SAME = ('pretraining', 'left_over', 'drawn_masks', 'classification', 'rates')
TORCHRUN = [BIN/'torchrun', '--nproc-per-node', '2', '--standalone']
ACCELERATE = [BIN/'accelerate', 'launch', '--multi_gpu', '--num_processes', '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no']


def launch(command, folder, *names, **env):
    "Run scenarios; what each process brought back, by name."
    base = {k: v for k, v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}
    done = subprocess.run([*map(str, command), str(SCRIPT), str(folder), *names], capture_output=True, text=True, timeout=1800, env=base | SETTINGS | env)
    assert not done.returncode, done.stderr[:4000]
    read = lambda f: torch.load(f, weights_only=False)    # written by ourselves a moment ago
    return {n: [read(f) for f in sorted(folder.glob(f'{n}-?.pt'))] for n in {f.name[:-5] for f in folder.glob('*-?.pt')}}


@pytest.fixture(scope='module')
def one(tmp_path_factory): return launch([sys.executable], tmp_path_factory.mktemp('one'), *SAME)


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('two')


@pytest.fixture(scope='module')
def two(folder): return launch(TORCHRUN, folder)


def close(a, b): return torch.allclose(torch.as_tensor(a).float(), torch.as_tensor(b).float(), atol=1e-6, rtol=0)


def check_same(one, two):
    assert len(one) == 1 and len(two) == 2
    for t in two:
        assert all(close(one[0]['weights'][k], v) for k, v in t['weights'].items())
        assert close(one[0]['curve'], t['curve']) and len(one[0]['losses']) == len(t['losses']) > 0 and close(one[0]['losses'], t['losses'])
        assert torch.isfinite(torch.tensor(t['curve'])).all()


@pytest.mark.parametrize('name', ['pretraining', 'left_over', 'drawn_masks'])
def test_pretraining_equals_one_process(one, two, name):
    "Weights, losses, the validation's masked loss and the predict-the-mean baseline; ragged predictions in the order of the data set; masks by value, and drawn."
    check_same(one[name], two[name])
    a = one[name][0]
    for b in two[name]:
        assert len(a['preds']) == len(b['preds']) == 13
        assert all(close(x, y) for x, y in zip(a['preds'], b['preds'])) and all(x.equal(y) for x, y in zip(a['values'], b['values']))


def test_training_moved_the_weights(one):
    "The comparison could not fail on a model that stays as it is."
    assert one['pretraining'][0]['losses'][0] > 1.01 * one['pretraining'][0]['losses'][-1]


def test_classification_equals_one_process(one, two):
    "Accumulation over two batches in each of two processes, freezing, metrics that add up and one that does not (F1)."
    a = one['classification'][0]
    for b in two['classification']:
        assert all(close(a['weights'][k], v) for k, v in b['weights'].items())
        valid = lambda r: [row[1:] for row in r['curve']]            # the first column runs over other batches: half as large, twice as many
        assert close(valid(a), valid(b)) and close(a['validated'], b['validated'])
        assert close(a['preds'], b['preds']) and a['y'].equal(b['y']) and a['decoded'].equal(b['decoded']) and close(a['losses_each'], b['losses_each'])


def test_looking_for_a_rate_equals_one_process(one, two):
    a = one['rates'][0]
    check_same(one['rates'], two['rates'])
    for b in two['rates']:
        assert a['same'] and b['same'] and len(a['rates']) == len(b['rates']) >= 13 and close(a['rates'], b['rates']) and close(a['tried'], b['tried'])
        assert a['found'] == b['found']


def test_one_process_writes_and_both_stay_tidy(two, folder):
    written = folder/'many_callbacks'
    assert len((written/'log.txt').read_text().splitlines()) == 2 and len((written/'history.csv').read_text().splitlines()) == 3
    assert [k['epoch'] for k in json.loads((written/'kept'/'checkpoints.json').read_text())] and (written/'pictures'/'epoch-0002.png').is_file()
    a, b = two['many_callbacks']
    assert a['same'] and b['same'] and a['curve'] == b['curve'] and all(v.equal(b['weights'][k]) for k, v in a['weights'].items())


def test_random_numbers_differ_between_processes(two):
    (mask_a, drop_a), (mask_b, drop_b) = (r['seen'] for r in two['randomness'])
    assert not drop_a.equal(drop_b) and (mask_a.shape != mask_b.shape or not mask_a.equal(mask_b))


def test_unequal_numbers_of_batches_end_together(two):
    "Five batches here, three there: three steps per epoch in both, and all samples of both are validated."
    a, b = two['unequal']
    assert a['steps'] == b['steps'] == [0, 1, 2] * 2 and a['curve'] == b['curve']


def test_accelerate_launch(one, tmp_path):
    check_same(one['pretraining'], launch(ACCELERATE, tmp_path, 'pretraining', ACCELERATE_USE_CPU='true')['pretraining'])


def test_accelerate_launch_in_half_precision(tmp_path):
    half = [x if x != 'no' or ACCELERATE[i - 1] != '--mixed_precision' else 'bf16' for i, x in enumerate(ACCELERATE)]
    two = launch(half, tmp_path, 'precision', ACCELERATE_USE_CPU='true')['precision']
    assert [t['processes'] for t in two] == [2, 2] and all(t['dtypes'] == {'torch.bfloat16'} and not t['warned'] for t in two)


def test_a_launch_that_starts_one_process_says_so(tmp_path):
    only, = launch([BIN/'accelerate', 'launch', '--cpu', '--num_processes', '2', '--mixed_precision', 'no', '--dynamo_backend', 'no'], tmp_path, 'precision')['precision']
    assert only['processes'] == 1 and only['dtypes'] == {'torch.float32'} and 'got more than one, and one was started' in only['warned'][0]
