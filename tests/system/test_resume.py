"""Kills training with SIGKILL and starts it again with the same command, until it ends: what is left must be what an undisturbed run leaves, bit by bit.

The ordinary test run kills 3 times, and starts its processes from a server that has imported everything (seconds instead of a minute).
`make soak` sets KILLS=20, and COMMANDS=1 to start the real commands, `python` and `torchrun`."""
import json, multiprocessing, os, random, runpy, socket, subprocess, sys, time
from pathlib import Path

import psutil
import pytest

from romae_nb.checkpoint import Position, checkpoints, verify

SCRIPT = Path(__file__).with_name('resume_run.py')
KILLS = int(os.environ.get('KILLS', 3))
REAL = 'COMMANDS' in os.environ                 # real commands
EPOCHS = 4 if KILLS < 4 else 40                 # of 6 batches each, of 3 with two processes; enough for so many kills
WAIT = 600                                      # seconds for a start, on a machine that has much else to do


def _child(folder, env, log):
    "One process of a run: what `python` or `torchrun` would start."
    os.environ.update(env)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    runpy.run_path(str(SCRIPT))['main'](folder, EPOCHS)


class Run:
    "The command, started once."
    def __init__(self, folder, processes, slow):
        self.folder, self.log = Path(folder), Path(folder)/'log.txt'
        (self.folder/'started').unlink(missing_ok=True)
        env = dict(SLOW_WRITES=str(slow), OMP_NUM_THREADS='1', ACCELERATE_USE_CPU='true')
        if REAL: self._command(processes, env)
        else: self._fork(processes, env)

    def _command(self, processes, env):
        launch = [sys.executable] if processes == 1 else [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', str(processes), '--master-port', port()]
        with open(self.log, 'a') as log:
            self.group = subprocess.Popen([*launch, str(SCRIPT), str(self.folder), str(EPOCHS)], env=os.environ | env, stdout=log, stderr=log)
        self.children = []

    def _fork(self, processes, env):
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['romae_nb.learner', 'romae_nb.checkpoint', 'fastai.distributed', 'accelerate'])
        if processes > 1: env |= dict(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=port())
        rank = lambda r: env | (dict(RANK=str(r), LOCAL_RANK=str(r)) if processes > 1 else {})
        self.group, self.children = None, [context.Process(target=_child, args=(str(self.folder), rank(r), str(self.log))) for r in range(processes)]
        for c in self.children: c.start()

    def codes(self): return [self.group.poll()] if self.group else [c.exitcode for c in self.children]
    def ended(self): return None not in self.codes()
    def failed(self): return any(self.codes())

    def wait(self, until):
        "Until something is true, or the run has ended. A machine that stands still for a while does not count as waiting."
        waited, last = 0., time.monotonic()
        while not until() and not self.ended() and not self.failed():
            waited, last = waited + min(time.monotonic() - last, 1), time.monotonic()
            assert waited < WAIT, f'nothing happened:\n{self.tail()}'
            time.sleep(.002)

    def kill(self):
        "SIGKILL for every process of the run."
        if self.group and self.group.poll() is None:
            launcher = psutil.Process(self.group.pid)
            for p in [*launcher.children(recursive=True), launcher]:              # torchrun gives each worker a session of its own
                try: p.kill()
                except psutil.NoSuchProcess: pass
            self.group.wait()
        for c in self.children: c.kill()
        for c in self.children: c.join()

    def tail(self): return self.log.read_text()[-3000:] if self.log.exists() else ''


def port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return str(s.getsockname()[1])


def finish(folder, processes, slow=0):
    "Run to the end; what it left behind, by process."
    run = Run(folder, processes, slow)
    try: run.wait(lambda: False)
    finally: run.kill()
    assert not run.failed(), run.tail()
    return [json.loads((Path(folder)/f'result-{r}.json').read_text()) for r in range(processes)]


def progress(folder):
    "The newest checkpoint; every one there must be whole."
    found = [(stage, Position.of(p.name)) for stage in ('pretrain', 'finetune') for p in checkpoints(folder/stage)]
    for stage, p in found: verify(folder/stage/p.name)
    return found[-1] if found else ('', Position(0, 0))


def writing(folder): return list(folder.glob('*/.writing-*'))


def kill_again_and_again(folder, processes, kills, seed=0):
    "Returns how many kills came in the midst of writing a checkpoint."
    rng, within, stages = random.Random(seed), 0, ['', 'pretrain', 'finetune']
    newest, lost = progress(folder), 0
    for i in range(kills):
        run = Run(folder, processes, slow=.01)
        run.wait(lambda: (folder/'started').exists())
        if i % 7 == 5: pass                                                   # right at the beginning
        else:
            steps = rng.randint(1, 6 if KILLS < 4 else 10)
            seen = {progress_name(folder)}
            def enough(): seen.add(progress_name(folder)); return len(seen) > steps
            run.wait(enough)
            if i % 3 == 0: run.wait(lambda: writing(folder))                  # for certain, while it writes
            else: time.sleep(rng.uniform(0, .1))                              # at any moment
        ended = run.ended()
        run.kill()
        assert not ended, f'ended before kill {i}: {run.codes()}\n{run.tail()}'
        within += bool(writing(folder))
        now = progress(folder)
        assert (stages.index(now[0]), now[1]) >= (stages.index(newest[0]), newest[1]), f'lost: {newest} -> {now}'
        newest = now
    return within


def progress_name(folder):
    "The newest checkpoint by name, at any moment."
    names = [(s, p) for s in ('pretrain', 'finetune') for p in checkpoints(folder/s)]
    return names[-1] if names else None


def compare(want, got):
    for a, b in zip(want, got, strict=True):
        for stage, x, y in zip(('pretrain', 'finetune'), a, b, strict=True):
            for k in x: assert x[k] == y[k], f'{stage}: {k} differs'


@pytest.mark.parametrize('processes', [1, 2])
def test_killed_and_started_again(processes, tmp_path):
    whole, pieces = tmp_path/'whole', tmp_path/'pieces'
    whole.mkdir(), pieces.mkdir()
    want = finish(whole, processes)
    within = kill_again_and_again(pieces, processes, KILLS)
    assert within >= KILLS // 4 and within >= 1
    compare(want, finish(pieces, processes))
    print(f'\n{processes} process(es): {KILLS} kills, {within} of them while a checkpoint was written; the same to the last bit')
    if processes == 2: assert want[0][0]['model'] == want[1][0]['model']


def test_another_number_of_processes_is_refused(tmp_path):
    run = Run(tmp_path, 1, 0)
    run.wait(lambda: len(checkpoints(tmp_path/'pretrain')) > 1)
    run.kill()
    run = Run(tmp_path, 2, 0)
    run.wait(lambda: False)
    run.kill()
    assert run.failed() and 'processes 1 instead of 2' in run.log.read_text() and 'another process failed at its part' in run.log.read_text()
