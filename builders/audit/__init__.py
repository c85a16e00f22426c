"""A page to hear and judge the songs of a build, served on this machine; needs the extra `stemloom[audit]`."""
