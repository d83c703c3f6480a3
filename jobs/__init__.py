"""What is computed, and how: campaigns, stages, the engines that they run, the store of their products."""
