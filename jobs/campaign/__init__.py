"""From a tier file to a campaign: which stage stands behind each product that a claim reads."""
