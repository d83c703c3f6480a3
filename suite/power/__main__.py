"""`python -m suite.power`."""

from suite.power.measure import main

raise SystemExit(main())
