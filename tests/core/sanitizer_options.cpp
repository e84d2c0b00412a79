// The sanitizers end a program that asks for more memory than there is. The test of the allocator
// does so on purpose and wants malloc's own answer.

extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}
