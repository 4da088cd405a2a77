"Sphinx reads the notebooks through `romae_nb._dev.build.read`; outputs come from the notebooks, nothing is run for them here."
from romae_nb._dev.build import add_contents, read_ini

ini = read_ini('../settings.ini')
project = html_title = ini['lib_name']
author, release = ini['author'], ini['version']
extensions = ['myst_nb', 'sphinx.ext.viewcode', 'sphinx.ext.mathjax']
exclude_patterns = ['_*', '.*', 'images']
nb_custom_formats = {'.ipynb': 'romae_nb._dev.build.read'}
nb_execution_mode = 'off'
nb_render_markdown_format = 'myst'                            # tables in outputs too
myst_enable_extensions = ['amsmath', 'colon_fence', 'dollarmath']
myst_heading_anchors = 4
add_module_names = False
nitpicky = True                                               # an unknown reference fails the build ...
nitpick_ignore_regex = [('py:.*', r'(?!romae_nb\.).*')]       # ... unless it is another library's
python_maximum_signature_line_length = 88
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['custom.css']
mathjax_path = 'mathjax/tex-svg.js'                           # vendored: npm pack mathjax@3.2.2, package/es5/tex-svg.js
html_show_sourcelink = html_copy_source = False


def setup(app): app.connect('source-read', add_contents)
