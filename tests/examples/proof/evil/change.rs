//! Changes to a tree of odd entries, as scripts.

/// Changes a tree in each of the ways that a restore has to undo: gone, new, changed, another kind, another mode.
pub(super) const DAMAGE: &str = r"
import os, shutil, sys
top = sys.argv[1]
p = lambda *parts: os.path.join(top, *parts)
shutil.rmtree(p('casefold'))
open(p('casefold'), 'w').write('a file now')
shutil.rmtree(p('symlinks', 'real'))
os.symlink('/etc', p('symlinks', 'real'))
for name in sorted(os.listdir(p('hugedir')))[::3]: os.unlink(p('hugedir', name))
for number in range(50): open(p('hugedir', 'new%d' % number), 'w').write('new')
for name in os.listdir(p('sizes'))[::2]:
    if os.path.isfile(p('sizes', name)): open(p('sizes', name), 'ab').write(b'more')
os.unlink(p('names', '-rf'))
os.mkdir(p('names', '-rf'))
os.chmod(p('sizes', 's0000000'), 0o755)
os.makedirs(p('new', 'deep', 'er'))
os.symlink('nowhere', p('new', 'link'))
";

/// More of it, after the above: links out of the tree, links between files, attributes, sparse files, deep paths, files whose
/// time and size stay, a nested repository, a name for a file outside.
pub(super) const MORE_DAMAGE: &str = r"
import os, shutil, sys
top, outside = sys.argv[1:]
p = lambda *parts: os.path.join(top, *parts)
shutil.rmtree(p('times', 'dir'))
os.symlink(outside, p('times', 'dir'))
os.unlink(p('outward'))
os.makedirs(p('outward', 'a folder now'))
open(p('outward', 'secret'), 'w').write('of the workspace')
os.symlink(outside, p('new', 'outward'))
os.symlink(os.path.join(outside, 'secret'), p('new', 'outward file'))
for name in ('rel', 'dangling', 'chain07'):
    os.unlink(p('symlinks', name))
os.symlink('real/other', p('symlinks', 'rel'))
os.makedirs(p('symlinks', 'dangling', 'is a folder now'))
os.rename(p('hardlinks', 'sub'), p('hardlinks', 'moved'))
os.unlink(p('hardlinks', 'b'))
shutil.copy(p('hardlinks', 'a'), p('hardlinks', 'b'))
os.link(p('hardlinks', 'empty1'), p('hardlinks', 'empty3'))
os.unlink(p('hardlink-out', 'inside-name'))
open(p('hardlink-out', 'inside-name'), 'w').write('a file of its own')
for name in ('one', 'rewritten'):
    seen = os.stat(p('racy', name))
    with open(p('racy', name), 'r+b') as file: file.write(b'C' * seen.st_size)
    os.utime(p('racy', name), ns=(seen.st_atime_ns, seen.st_mtime_ns))
os.truncate(p('sparse', 'hole-end'), 4 << 20)
with open(p('sparse', 'holes-many'), 'r+b') as file:
    file.seek(3 << 20)
    file.write(b'in a hole')
os.rename(p('paths', 'over-path-max'), p('paths', 'moved'))
os.unlink(os.path.join(p('paths', 'deep-300'), *['d'] * 300, 'leaf'))
os.chmod(p('paths'), 0o700)
open(p('git', 'nested', 'ignored-but-real'), 'a').write('and more\n')
open(p('git', 'nested', '.git', 'hooks', 'new-hook'), 'w').write('#!/bin/sh\n')
shutil.rmtree(p('git', 'lookalike', '.GIT'))
open(p('git', 'gitfile', '.git'), 'w').write('gitdir: elsewhere\n')
open(p('traps-for-the-tool', '__pycache__', 'planted.pyc'), 'w').write('x')
shutil.rmtree(p('traps-for-the-tool', 'node_modules'))
def attribute(name, key, value):
    try:
        os.setxattr(p('xattrs', name), key, value)
    except OSError:
        pass
attribute('plain', 'user.comment', b'changed')
attribute('many', 'user.new', b'new')
attribute('dacl', 'user.on-dir', b'changed')
for folder in ('d555', 'd500', 'd300'):
    if os.path.isdir(p('ro-dirs', folder)):
        os.unlink(p('ro-dirs', folder, 'child'))
        open(p('ro-dirs', folder, 'sub', 'new'), 'w').write('new')
if os.path.isdir(p('ro-dirs', 'd000')):
    os.chmod(p('ro-dirs', 'd000'), 0o755)
for name in ('f0000', 'f0444', 'f6755'):
    if os.path.exists(p('modes', name)):
        os.chmod(p('modes', name), 0o600)
if os.path.isdir(p('modes', 'd1777')):
    os.chmod(p('modes', 'd1777'), 0o755)
";

/// Puts another tree of odd entries in the place of this one, and each of its folders where another was; what no checkpoint can
/// hold stays.
pub(super) const REPLACE: &str = r"
import os, subprocess, sys
top, other = sys.argv[1:]
kept = ('special', '.evoseal', 'evoseal.toml')
for name in os.listdir(top):
    if name not in kept:
        subprocess.run(['rm', '-rf', '--', os.path.join(top, name)], check=True)
names = sorted(name for name in os.listdir(other) if name not in kept)
for name, place in zip(names, names[1:] + names[:1]):
    os.rename(os.path.join(other, name), os.path.join(top, place))
";
