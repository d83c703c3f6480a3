"""Stages and their products on disk: identities, manifests, and what is still to do."""
