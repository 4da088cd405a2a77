"All package metadata comes from settings.ini; pyproject.toml configures the tools."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read('settings.ini', encoding='utf-8')
s = ini['DEFAULT']
lib = s['lib_name']

setup(
    name=lib, version=s['version'], description=s['description'], author=s['author'], author_email=s['author_email'],
    license=s['license'], keywords=s['keywords'].split(), python_requires='>=' + s['min_python'],
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    project_urls={k: s[v] for k, v in dict(Repository='repository', Documentation='documentation').items() if s[v]},
    install_requires=s['requirements'].split(), extras_require={k.removesuffix('_requirements'): s[k].split() for k in s if k.endswith('_requirements')},
    packages=find_packages(include=[lib, f'{lib}.*'], exclude=[f'{lib}._dev', f'{lib}._dev.*']),
    entry_points={'nbdev': [f'{lib} = {lib}._modidx:d']},
)
