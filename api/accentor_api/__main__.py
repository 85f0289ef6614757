"""``python -m accentor_api``: the API with the settings of the environment."""

from accentor.settings import Settings
from accentor_api.app import serve

if __name__ == "__main__":
    serve(Settings())
