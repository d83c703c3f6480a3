"""The parts of a campaign that `jobs.campaign.build` puts together."""
