"Restricts timm's own tests to models that romae_nb registers, and holds every skip against known_skips.txt."
import os
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest, timm, torch
from timm.models import _registry

torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))
_before = set(_registry._model_entrypoints)
import romae_nb  # noqa: E402

OURS = {n for n in set(_registry._model_entrypoints) - _before if fnmatch(n, os.environ.get('ROMAE_TIMM_MODELS', 'romae_*'))}
if not OURS: raise ValueError(f'no model is called {os.environ.get("ROMAE_TIMM_MODELS")!r}')
MODULES = sorted({_registry._model_to_module[n] for n in OURS})
LEAST = 20  # tests for each model: fewer means that some filter of timm's dropped it
KNOWN = [s.split(None, 2) for s in Path(os.environ['ROMAE_KNOWN_SKIPS']).read_text().splitlines() if s.strip() and s[0] != '#']
_list_models = timm.list_models
ran, unlisted, broken = Counter(), [], []


def list_models(filter='', module='', pretrained=False, exclude_filters='', name_matches_cfg=False, include_tags=None):
    # what a pull request to timm would do in its test file: add 'romae_*' to NON_STD_FILTERS and our module to FEAT_INTER_FILTERS
    if not isinstance(filter, str) and 'vit_*' in filter: filter = [*filter, 'romae_*']
    if not isinstance(exclude_filters, str) and 'vit_*' in exclude_filters: exclude_filters = [*exclude_filters, 'romae_*']
    if not isinstance(module, str) and 'vision_transformer' in module: module = MODULES
    out = _list_models(filter, module, pretrained, exclude_filters, name_matches_cfg, include_tags)
    return [n for n in out if n.split('.')[0] in OURS]


timm.list_models = list_models
timm.list_pretrained = lambda filter='', exclude_filters='': list_models(filter, pretrained=True, exclude_filters=exclude_filters, include_tags=True)


def model_of(item):
    vals = getattr(getattr(item, 'callspec', None), 'params', {}).values()
    return next((v.split('.')[0] for v in vals if isinstance(v, str) and v.split('.')[0] in OURS), None)


def reason(item): return next((r for t, m, r in KNOWN if t == item.originalname and fnmatch(model_of(item), m)), None)


def pytest_collection_modifyitems(config, items):
    "Keep what is about our models; what is listed must skip or fail."
    names = {i.originalname for i in items}
    broken.extend(f'known_skips.txt: no test is called {t}' for t, *_ in KNOWN if t not in names)
    keep, drop = [i for i in items if model_of(i)], [i for i in items if not model_of(i)]
    for i in keep:
        ran[model_of(i)] += 1
        if r := reason(i): i.add_marker(pytest.mark.xfail(reason=r, strict=True))
    broken.extend(f'{n}: {ran[n]} tests, not the {LEAST} expected' for n in sorted(OURS) if ran[n] < LEAST and not config.option.keyword)
    config.hook.pytest_deselected(items=drop)
    items[:] = keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    rep = yield
    if rep.skipped and not reason(item): unlisted.append(f'{rep.nodeid}: skips, and is not in known_skips.txt: {rep.longrepr}')
    return rep


def pytest_sessionfinish(session, exitstatus):
    if unlisted + broken and exitstatus in (0, 5): session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    for s in unlisted + broken: terminalreporter.write_line(f'ERROR {s}')
    terminalreporter.write_line(f'models: {", ".join(f"{k} ({v})" for k, v in sorted(ran.items()))}; {len(KNOWN)} entries in known_skips.txt')
