"""With this the run ends with a table of promises."""

pytest_plugins = ["broker.testing.plugin"]
