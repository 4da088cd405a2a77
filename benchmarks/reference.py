"""The reference implementation, from a folder beside the repository. Nothing of it is kept here."""
import importlib, random, subprocess, sys
from pathlib import Path

from safetensors.torch import save_file


NEEDS = 'einops and pydantic-settings'


def load(folder):
    "Its modules `model` and `utils`, and the commit where one is known."
    folder = Path(folder).expanduser().resolve()
    if not (folder/'romae'/'model.py').is_file(): raise ValueError(f'REFERENCE: got {folder}; takes a checkout of the reference, with romae/model.py')
    sys.path.insert(0, str(folder))
    try: modules = [importlib.import_module(f'romae.{m}') for m in ('model', 'utils')]
    except ModuleNotFoundError as e: raise ModuleNotFoundError(f'REFERENCE: it needs {e.name}; pip install {NEEDS}') from e
    finally: sys.path.remove(str(folder))
    return Reference(*modules, commit=_commit(folder))


def _commit(folder):
    note = folder/'COMMIT'
    if note.is_file(): return note.read_text().strip()
    run = subprocess.run(['git', '-C', str(folder), 'rev-parse', 'HEAD'], capture_output=True, text=True)
    return run.stdout.strip() or None


class Reference:
    "Models of the reference that have the sizes and weights of ours."
    def __init__(self, model, utils, commit=None): self.model, self.utils, self.commit = model, utils, commit

    def mask(self, ratio, pad_mask, seed=0):
        "Its own draw; it also hides trailing padding, so that every row hides equally many."
        random.seed(seed)
        return self.utils.gen_mask(ratio, pad_mask)

    def pretraining(self, size, tubelet_size=(1, 1, 1), in_chans=2, n_pos_dims=2, **kw):
        m = self.model
        config = m.RoMAEForPreTrainingConfig(encoder_config=m.EncoderConfig(**size), tubelet_size=tubelet_size, n_channels=in_chans, n_pos_dims=n_pos_dims, **kw)
        return m.RoMAEForPreTraining(config)

    def classifier(self, size, n_classes, tubelet_size=(1, 1, 1), in_chans=2, n_pos_dims=2):
        m = self.model
        config = m.RoMAEForClassificationConfig(encoder_config=m.EncoderConfig(**size), tubelet_size=tubelet_size, n_channels=in_chans,
                                                n_pos_dims=n_pos_dims, dim_output=n_classes)
        return m.RoMAEForClassification(config)


def write(model, folder):
    "A reference model as the folder that our `from_reference` reads."
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, Path(folder)/'model.safetensors')
    (Path(folder)/'model_config.json').write_text(model.config.model_dump_json())
    return folder
