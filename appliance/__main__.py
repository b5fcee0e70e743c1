"""`python -m appliance`: the cell."""

import sys

from appliance.main import main

sys.exit(main())
