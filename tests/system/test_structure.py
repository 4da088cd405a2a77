"What the layout promises: imports make no circle, fastai starts at 20, and importing the package registers models without it."
import ast, json, re, subprocess, sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIB = 'romae_nb'
FASTAI_FROM = 20


def numbers(root=ROOT):
    "Module name -> number of its notebook, for every module that a notebook exports."
    out = {}
    for nb in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        for c in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            src = ''.join(c['source'])
            if c['cell_type'] != 'code': continue
            for mod in re.findall(r'^#\|\s*(?:default_exp:?|exports?:?|exporti:?)\s+([\w.]+)\s*$', src, re.M): out[mod] = int(nb.name[:2])
    return out


def imports(src, mod):
    "Every module that the source of `romae_nb.<mod>` imports, anywhere in it, by full name; `from a import b` counts as a.b too."
    pkg = f'{LIB}.{mod}'.split('.')[:-1]
    for o in ast.walk(ast.parse(src)):
        if isinstance(o, ast.Import): yield from (a.name for a in o.names)
        if isinstance(o, ast.ImportFrom):
            base = '.'.join([*(pkg[:len(pkg) - o.level + 1] if o.level else []), *filter(None, [o.module])])
            yield base
            yield from (f'{base}.{a.name}' for a in o.names)


def own_imports(src, mod, nums):
    "Modules of ours that the source of a module imports."
    names = (n.removeprefix(f'{LIB}.') for n in imports(src, mod) if n.startswith(f'{LIB}.'))
    return sorted({n for n in names if n in nums and n != mod})


def misplaced(src, mod, nums):
    "What the source of a module imports and must not: fastai below its number, and training modules from models."
    bad = [f'{mod} ({nums[mod]:02}) imports {n} ({nums[n]:02})' for n in own_imports(src, mod, nums) if nums[n] >= FASTAI_FROM > nums[mod]]
    fastai = [n for n in dict.fromkeys(imports(src, mod)) if re.match(r'fastai(\.|$)', n)]
    return bad + [f'{mod} ({nums[mod]:02}) imports {n}' for n in fastai if nums[mod] < FASTAI_FROM]


def circle(graph):
    "Modules that import each other in a ring, the first one found; None where there is none."
    sorter = TopologicalSorter(graph)
    try: sorter.prepare()
    except CycleError as e: return e.args[1]


def source(mod): return (ROOT/LIB/(mod.replace('.', '/') + '.py')).read_text(encoding='utf-8')


def test_every_module_has_a_number():
    nums = numbers()
    files = {p.relative_to(ROOT/LIB).with_suffix('').as_posix().replace('/', '.') for p in (ROOT/LIB).rglob('*.py') if p.name[:2] not in ('__', '_m')}
    assert files == set(nums)
    assert {'positions', 'rope', 'tubelets', 'masking', 'encoder', 'romae', 'mae', 'hub', 'visualize', 'data', 'callbacks', 'learner'} <= files


@pytest.mark.parametrize('mod', sorted(numbers()))
def test_models_and_data_import_no_training(mod): assert not misplaced(source(mod), mod, numbers())


def test_imports_make_no_circle():
    nums = numbers()
    assert circle({mod: own_imports(source(mod), mod, nums) for mod in nums}) is None
    assert circle({'a': ['b'], 'b': ['c'], 'c': ['a']}) is not None and circle({'a': ['b'], 'b': []}) is None


@pytest.mark.parametrize('src, what', [
    ('from romae_nb.learner import x', 'learner'), ('from .learner import x', 'learner'), ('from . import learner', 'learner'),
    ('import romae_nb.learner as l', 'learner'), ('def f():\n    from romae_nb import learner', 'learner'),
    ('import fastai', 'fastai'), ('from fastai.learner import Learner', 'fastai.learner'), ('import fastai.basics as b', 'fastai.basics')])
def test_a_wrong_import_is_seen(src, what):
    assert f'imports {what}' in misplaced(src, 'rope', numbers())[0]


@pytest.mark.parametrize('src', ['import torch, fastcore.basics', 'from .positions import x', 'from fastcore.all import *', 'import fastai_like'])
def test_a_right_import_passes(src): assert not misplaced(src, 'rope', numbers())


def run(code):
    return json.loads(subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


LOADED = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules} & {'fastai', 'romae_nb'})))"


def test_import_loads_no_fastai():
    assert run(f'import romae_nb; {LOADED}') == ['romae_nb']
    assert run(f'import romae_nb.data; {LOADED}') == ['fastai', 'romae_nb']  # the same look does see fastai


def test_import_registers():
    names = run("import json, timm; before = timm.list_models('romae*'); import romae_nb; print(json.dumps([before, timm.list_models('romae*')]))")
    assert names == [[], ['romae_base', 'romae_large', 'romae_small', 'romae_tiny', 'romae_tiny_shallow']]


def test_wheel_leaves_the_build_module_out():
    code = (f"import json; from setuptools import find_packages; src = open('setup.py').read(); seen = {{}}; "
            "import setuptools; setuptools.setup = lambda **k: seen.update(k); exec(src); print(json.dumps(seen['packages']))")
    pkgs = run(code)
    assert LIB in pkgs and not [p for p in pkgs if '_dev' in p]
