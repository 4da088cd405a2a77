"Every public class and function that takes settings, with every argument, against junk: what comes back is right for that argument, or an error of ours names it."
import inspect, io, os, pkgutil, re, resource, signal, sys, tempfile, time, warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
from fastai.callback.core import Callback

import romae_nb
from hostile_table import CASES, JUNK, LEFT_OUT, Case
from romae_nb.checks import whole
from romae_nb.masking import Mask

HERE = Path(__file__).parent
UNKNOWN = 'unknown_keyword'
SECONDS, MEMORY = 2., 3 << 30                                     # of the processor that a call may take, and bytes that it may ask for beyond what is there


class TooLong(BaseException): "A call that does not come back."


@contextmanager
def limits():
    "Interrupt what runs for longer, or wants more memory, than a wrong argument should cost."
    def stop(*_): raise TooLong
    kept, before = signal.signal(signal.SIGPROF, stop), resource.getrlimit(resource.RLIMIT_AS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, kept)


def names(error, argument):
    "Whether an error says which argument it is about, and what that takes. Python's own words for a keyword that a function does not have will do."
    text = str(error)
    if re.search(rf"unexpected keyword argument '{argument}'", text): return True
    return bool(isinstance(error, (ValueError, TypeError, OSError)) and re.search(rf'(?<![\w]){argument}(?![\w])',
                                                                                  text) and 'takes' in text)


def outcome(case, argument, value, right):
    "None where all is well; else what is wrong, in a few words."
    try:
        arguments = case.arguments() | {argument: value}
        with limits(), warnings.catch_warnings(action='ignore'), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()): case.target()(**arguments)
    except TooLong: return 'runs on and on'
    except (Exception, SystemExit) as e:
        if names(e, argument): return None
        return f'names nothing: {type(e).__name__}: {" ".join(str(e).split())[:140]}'
    return None if right else 'is accepted'


def rows(case):
    "(argument, label of the junk, junk, whether it is right) of all that is tried."
    for argument, right in case.parameters().items():
        for label, value in JUNK.items():
            if label not in case.skip.get(argument, '').split(): yield argument, label, value, label in right
    yield UNKNOWN, 'keyword', 1, False


def findings(case):
    "'argument label: what is wrong' of one case."
    out = []
    for argument, label, value, right in rows(case):
        wrong = outcome(case, argument, value, right)
        if wrong: out.append((argument, label, wrong))
    return out


def exceptions():
    "(callable, argument, label) -> reason."
    out = {}
    for line in (HERE/'hostile_exceptions.txt').read_text(encoding='utf-8').splitlines():
        if not line.strip() or line.startswith('#'): continue
        what, reason = line.split(':', 1)
        name, argument, *found = what.split()
        out |= {(name, argument, label): reason.strip() for label in found}
    return out


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('case', CASES, ids=[f'{i}-{c.name}' for i, c in enumerate(CASES)])
def test_the_call_works(case):
    "Else nothing that follows means anything."
    with warnings.catch_warnings(action='ignore'), redirect_stdout(io.StringIO()): case.target()(**case.arguments())


@pytest.mark.parametrize('case', CASES, ids=[f'{i}-{c.name}' for i, c in enumerate(CASES)])
def test_junk_is_right_or_refused_by_name(case):
    known = exceptions()
    wrong = [f'{case.name}({a}={label}) {what}' for a, label, what in findings(case) if (case.name, a,
                                                                                         label) not in known]
    assert not wrong, '\n' + '\n'.join(wrong)


def careless(n): return n
def puzzled(n): raise KeyError(n)
def endless(n):
    while n is None: pass
    whole('n', n)
def careful(n=None): return whole('n', n, low=0, none=True)
def hoarding(n): return whole('n', n, low=0) and bytearray(n)

def test_what_is_wrong_is_seen():
    "Careless, puzzled and endless functions are found out; a careful one is not."
    found = lambda f, right='': {(label, what.partition(':')[0]) for _, label, what in findings(Case(f.__name__,
                                                                                                     dict(n=1), dict(n=right), f))}
    assert found(careless, 'int3 huge') == {(k, 'is accepted') for k in JUNK if k not in ('int3', 'huge')}
    assert found(puzzled) == {(k, 'names nothing') for k in JUNK}
    assert found(endless, '-1 0 huge int3') == {('None', 'runs on and on')}
    assert found(careful, '0 huge int3') == set() and found(careful, 'huge int3') == {('0', 'is accepted')}
    assert found(hoarding, '0 int3') == {('huge', 'names nothing')}


def public():
    "(module.name, object) of all that the package's modules offer as their own."
    for found in pkgutil.iter_modules(romae_nb.__path__):
        if found.name.startswith('_'): continue
        module = import_module(f'romae_nb.{found.name}')
        for name in getattr(module, '__all__', ()):
            thing = getattr(module, name)
            if callable(thing) and getattr(thing, '__module__',
                                           None) == module.__name__: yield f'{found.name}.{name}', thing


def takes_settings(name, thing):
    "Callbacks and masks with arguments, and functions that make data sets, Learners and pictures."
    short = name.split('.')[1]
    if inspect.isclass(thing):
        if not issubclass(thing, (Callback, Mask)): return False
        return any(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(thing).parameters.values())
    return short.startswith(('plot_', 'from_', 'fit_')) or short.endswith(('_learner', '_dataset', '_probe',
                                                                           '_transforms', 'loaders'))


def test_the_table_has_all_that_takes_settings():
    known = {c.name for c in CASES} | set(LEFT_OUT)
    assert not [name for name, thing in public() if takes_settings(name, thing) and not {name,
                                                                                         name.split('.')[1]} & known]


def test_exceptions_are_few_and_have_reasons():
    known = exceptions()
    assert len(known) < 30 and all(len(reason) > 20 for reason in known.values())
    assert {name for name, *_ in known} <= {c.name for c in CASES}


def report(path, modules=()):
    "Write what is wrong, module by module, most first; of some modules, or of all."
    by_module, times, total = {}, {}, 0
    for case in [c for c in CASES if not modules or c.module in modules]:
        os.chdir(tempfile.mkdtemp())
        start = time.perf_counter()
        found = findings(case)
        total += len(list(rows(case)))
        times[case.name] = time.perf_counter() - start
        by_module.setdefault(case.module, []).extend(f'{case.name}({a}={label}) {what}' for a, label, what in found)
    lines = [f'{total} calls, {sum(times.values()):.0f} s; slowest: ' + ', '.join(f'{n} {t:.1f} s' for n,
                                                                                  t in sorted(times.items(),
                                                                                              key=lambda x: -x[1])[:8])]
    for module, found in sorted(by_module.items(), key=lambda x: -len(x[1])):
        accepted = sum(f.endswith('is accepted') for f in found)
        lines += ['', f'## {module}: {len(found)} ({accepted} accepted, {len(found) - accepted} name nothing)', *found]
    Path(path).write_text('\n'.join(lines) + '\n', encoding='utf-8')


if __name__ == '__main__': report(Path(sys.argv[1]).resolve(), sys.argv[2:])
