// A shared library without the entry points of an extension.
extern "C" int answer() { return 42; }
