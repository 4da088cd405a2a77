"""timm's tests whose model list is hard-coded, re-applied to external models by calling the test functions."""
import pytest, timm
import test_models as tm
import test_model_input as ti
from conftest import OURS
NAMES = sorted(OURS)
IMG = 64
KW = dict(img_size=IMG)   # upstream tests feed 64x64
P = pytest.mark.parametrize

@P('n', NAMES)
def test_prune_params_used(n): tm.test_prune_intermediate_layers_params_used(n)
@P('n', NAMES)
def test_head_hidden_size(n): tm.test_head_hidden_size(n, KW)
@P('n', NAMES)
def test_to_empty(n): tm.test_model_init_weights_after_to_empty(n, KW)
@P('n', NAMES)
def test_headless_reload(n): tm.test_headless_checkpoint_reload(n, {})
@P('n', NAMES)
def test_getter_script(n): tm.test_pruned_features_torchscript(n)
@P('n', NAMES)
def test_resize_roundtrip(n, tmp_path): ti.test_default_resize_hub_roundtrip(tmp_path, n, {}, IMG, 96)
@P('pool', [None, '', 'avg', 'token'])
@P('n', NAMES)
def test_export_reset(n, pool, tmp_path): ti.test_export_tracks_reset_classifier_structure(tmp_path, n, {}, pool, None)

@P('n', NAMES)
def test_export_no_regularization(n, tmp_path):
    m = timm.create_model(n, drop_rate=.2, drop_path_rate=.1, proj_drop_rate=.1, attn_drop_rate=.1)
    assert not {k for k in timm.models.get_model_args(m) if k.endswith('drop_rate')}

@P('n', NAMES)
def test_layer_decay_optimizer(n):
    from timm.optim import create_optimizer_v2
    m = timm.create_model(n)
    o = create_optimizer_v2(m, opt='adamw', lr=1e-3, weight_decay=.05, layer_decay=.75)
    scales = sorted({round(g['lr_scale'], 4) for g in o.param_groups})
    assert len(scales) > 2 and scales[-1] == 1.0   # one rate a block and more
