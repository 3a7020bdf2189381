"""Why a network evaluates badly, or otherwise at another batch size: `diagnose` looks, checks name it."""
