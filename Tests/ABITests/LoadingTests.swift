import Foundation
import QEMUHarness
import Testing

/// The library is a guest in somebody else's process.
@Suite("In another's process", .serialized)
struct LoadingTests {
  @Test("a plain C program loads it late: no thread, no signal handler, no descriptor")
  func plainProgram() throws {
    let directory = try TemporaryDirectory()
    let program = try BuiltLibrary.compile(
      "loading", of: BuiltLibrary.programs, in: directory, options: ["-ldl", "-lswitchover"])
    try Command([program, BuiltLibrary.path], in: directory).expectSuccess()
  }

  @Test("perl loads it with dlopen and calls it")
  func perl() throws {
    let directory = try TemporaryDirectory()
    // A function without arguments can be called as it is; its result is left alone.
    let script = """
      use strict; use warnings; use DynaLoader;
      my $library = DynaLoader::dl_load_file($ARGV[0], 0) or die DynaLoader::dl_error();
      my $symbol = DynaLoader::dl_find_symbol($library, "swo_version") or die;
      my $function = DynaLoader::dl_install_xsub("main::swo_version", $symbol) or die;
      &$function() for 1 .. 3;
      opendir my $tasks, "/proc/self/task" or die;
      my $threads = grep { /^[0-9]/ } readdir $tasks;
      my $pid = fork() // die;
      if (!$pid) { &$function(); exit 7 }
      waitpid $pid, 0;
      print "threads $threads child ", $? >> 8, "\\n";
      """
    let command = try Command(["perl", "-e", script, BuiltLibrary.path], in: directory)
    #expect(try command.expectSuccess() == "threads 1 child 7\n")
  }

  @Test("forks before, while and after it works")
  func forking() throws {
    let pair = try QEMUPair()
    let program = try BuiltLibrary.compile(
      "forking", of: BuiltLibrary.programs, in: pair.directory)
    try Command(
      [program] + pair.addresses + [pair.source.monitorPaths[1]], in: pair.directory
    ).expectSuccess()
    try pair.expectGuestMoved()
  }

  @Test("a foreign loop sees its descriptor readable while and only while there is work")
  func foreignLoop() throws {
    let pair = try QEMUPair()
    let program = try BuiltLibrary.compile(
      "foreign-loop", of: BuiltLibrary.programs, in: pair.directory)
    try Command([program] + pair.addresses, in: pair.directory).expectSuccess()
    try pair.expectGuestMoved()
  }

  @Test("a signal ends every wait")
  func interrupted() throws {
    let pair = try QEMUPair()
    let program = try BuiltLibrary.compile(
      "interrupted", of: BuiltLibrary.programs, in: pair.directory)
    try Command(
      [program, pair.source.monitorPaths[0], pair.directory.file("silent.sock")],
      in: pair.directory
    ).expectSuccess()
  }
}
