"""pytest's entry: everything is in `suite.plugin`."""

pytest_plugins = ["suite.plugin"]
