"""Every operation of the platform's API, in one table: routes and OpenAPI document are both made from it."""

from __future__ import annotations

from onecode.platform.operations_operator import MERCHANTS, OPERATORS
from onecode.platform.operations_partners import CHECKPOINTS, PARTNERS
from onecode.platform.operations_payers import PAYERS, PUBLIC, TILLS

OPERATIONS = (*PUBLIC, *CHECKPOINTS, *PAYERS, *TILLS, *MERCHANTS, *OPERATORS, *PARTNERS)
