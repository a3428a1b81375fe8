"""A hyperparameter-tuning service for small neural nets.

The floors, from the ground up; imports go down only:

    specs, settings, errors   what a user may say, and what can go wrong
    data, nets                images in, a trained net out
    store                     the database and the files
    executors                 where training runs
    stages                    what a job does: search, promotion, verdict
    runner                    who does it: leases and coordinators
    cli, client               the terminal's door
"""

__version__ = "0.1.0"
