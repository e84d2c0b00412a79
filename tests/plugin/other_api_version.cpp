// A plugin as another version of Reverie would have built it, to be refused when it is loaded.

#include "core/plugin.h"

#undef REVERIE_PLUGIN_API_VERSION
#define REVERIE_PLUGIN_API_VERSION 999999
extern "C" const int REVERIE_PLUGIN_API_SYMBOL;

REVERIE_PLUGIN();
