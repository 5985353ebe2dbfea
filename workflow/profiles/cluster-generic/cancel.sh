#!/bin/sh
# Cancel jobs of Grid Engine.
#   cancel.sh ID...
exec qdel "$@"
