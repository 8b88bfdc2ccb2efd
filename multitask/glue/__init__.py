"""The GLUE benchmark: recipes, runs, scores and the leaderboard's file."""
