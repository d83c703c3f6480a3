"""Extended XYZ."""
