"""``just docs-reference``: writes the generated pages; with --check, only lists stale ones."""

import sys

from tests.reference.pages import REPAIR, ROOT, stale, write_all
from tests.reference.spec import MEANINGS, keys_without_meaning

if nameless := keys_without_meaning():
    sys.exit(f"{MEANINGS.relative_to(ROOT)} does not say what these keys mean: {nameless}")
if "--check" in sys.argv[1:]:
    if old := [str(path.relative_to(ROOT)) for path in stale()]:
        sys.exit(f"not as the code is: {', '.join(old)}; run `{REPAIR}` and commit what it writes")
else:
    for path in write_all():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
