"""Commands that measure speed: tune, cost."""
