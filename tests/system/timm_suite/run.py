"""Run timm's own, unmodified model tests, from the source release of the installed timm, on our registered models.

    python tests/system/timm_suite/run.py 'romae_*' [pytest options]

The release is fetched once, by pip, into .cache/ (git-ignored). What may skip or fail stands in known_skips.txt with its reason."""
import os, shutil, subprocess, sys, tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2]/'.cache'
TAKEN = 'test_models.py', 'test_model_input.py'


def timm_tests(v):
    "The tests of timm's release `v`, a folder."
    dest = CACHE/f'timm-{v}'
    if all((dest/f).exists() for f in TAKEN): return dest
    with TemporaryDirectory() as tmp:
        pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary', ':all:', '--dest', tmp, f'timm=={v}']
        subprocess.run(pip, check=True)
        with tarfile.open(Path(tmp)/f'timm-{v}.tar.gz') as tar:
            tar.extractall(tmp, members=[m for m in tar if m.isfile() and f'timm-{v}/tests/' in m.name], filter='data')
        dest.mkdir(parents=True, exist_ok=True)
        for f in TAKEN: shutil.copy(Path(tmp)/f'timm-{v}/tests'/f, dest/f)
    return dest


def main(models='romae_*', *options):
    tests = timm_tests(version('timm'))
    env = {k: v for k, v in os.environ.items() if k != 'GITHUB_ACTIONS'}  # where it is set, timm tests fewer models
    env |= dict(ROMAE_TIMM_MODELS=models, ROMAE_KNOWN_SKIPS=str(HERE/'known_skips.txt'))
    env.setdefault('OMP_NUM_THREADS', '1')
    with TemporaryDirectory() as run:
        for f in [*(tests/f for f in TAKEN), *(HERE/f for f in ('conftest.py', 'pytest.ini', 'test_extra.py'))]: shutil.copy(f, run)
        cmd = [sys.executable, '-m', 'pytest', 'test_models.py', 'test_extra.py', '-q', '--no-header', '-W', 'ignore', '--tb=short',
               '-p', 'no:cacheprovider', *options]
        return subprocess.run(cmd, cwd=run, env=env).returncode


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
