// A plugin whose version was written by hand.

extern "C" int reverie_plugin_api_version() {
  return 999;
}
