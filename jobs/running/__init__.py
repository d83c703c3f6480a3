"""Where stages run: in local core slots, as batch jobs of a cluster, in images."""
