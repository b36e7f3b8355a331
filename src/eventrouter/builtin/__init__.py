"""The plugins that come with eventrouter; they use only what every plugin may use."""
