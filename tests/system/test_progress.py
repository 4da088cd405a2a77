"Progress of a fit where people see it: in a terminal, and in a notebook that Jupyter's own kernel runs."
import os, pty, re, subprocess, sys
from pathlib import Path

import nbclient
import nbformat

SCRIPT = Path(__file__).with_name('notebook_run.py')
LEFT = r'\[\d/\d \d\d:\d\d(<|&lt;)\d\d:\d\d'                # done/all elapsed<left
COLUMNS = ['epoch', 'train_loss', 'valid_loss', 'mean_loss', 'time']
ENV = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | dict(PYTHONPATH=str(SCRIPT.parents[2]), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')


def test_in_a_terminal():
    ours, theirs = pty.openpty()
    run = subprocess.Popen([sys.executable, str(SCRIPT)], stdout=theirs, stderr=theirs, env=ENV)
    os.close(theirs)
    text = b''
    try:
        while part := os.read(ours, 4096): text += part
    except OSError: pass                                   # how a terminal says that nobody writes any more
    lines = [re.sub(r'\s+', ' ', l).strip() for l in re.split(r'[\r\n]', text.decode())]
    assert run.wait() == 0, text.decode()[-2000:]
    assert any('Epoch 2/2' in l and '█' in l and re.search(LEFT, l) for l in lines)
    assert ' '.join(COLUMNS) in lines and [l.split()[0] for l in lines if re.fullmatch(r'\d( \d\.\d+){3} \d\d:\d\d', l)] == ['0', '1']


def test_in_a_notebook(monkeypatch):
    for k in os.environ.keys() - ENV.keys(): monkeypatch.delenv(k)
    for k, v in ENV.items(): monkeypatch.setenv(k, v)
    shown = []

    class Client(nbclient.NotebookClient):
        "Keeps what is shown while a cell runs."
        def process_message(self, msg, cell, i):
            shown.append(msg['content'].get('data', {}).get('text/html', ''))
            return super().process_message(msg, cell, i)

    cell = nbformat.v4.new_code_cell(SCRIPT.read_text())
    Client(nbformat.v4.new_notebook(cells=[cell]), timeout=1800, kernel_name='python3').execute()
    assert any('<progress max="2" value="1">' in h and '<progress max="4" value="2">' in h and len(re.findall(LEFT, h)) == 2 for h in shown)
    table = [o['data']['text/html'] for o in cell.outputs if '<table' in o.get('data', {}).get('text/html', '')]
    assert len(table) == 1 and re.findall('<th>(.*?)</th>', table[0]) == COLUMNS and table[0].count('<tr>') == 3 and '<progress' not in table[0]
    said = ''.join(o['text'] for o in cell.outputs if o.output_type == 'stream' and o.name == 'stdout')
    assert re.fullmatch(r'romae_tiny_shallow: 1 channel, .* parameters\n', said)
