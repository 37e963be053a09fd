import CQEMUHarness
import Foundation
import Glibc
import QEMUHarness
import Testing

@Suite("A child process")
struct ChildProcessEnds {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
  }

  private func start(_ script: String) throws -> ChildProcess {
    try ChildProcess(
      "/bin/sh", ["-c", script], standardErrorPath: directory.file("stderr"),
      standardOutputPath: directory.file("stdout"))
  }

  @Test("is told apart: exit, abort, kill")
  func ends() throws {
    let exited = try start("echo out; echo error >&2; exit 3")
    #expect(exited.waitForExit(upTo: .seconds(60)) == .exited(status: 3))
    #expect(exited.standardError == "error\n")
    #expect(exited.standardOutput == "out\n")
    #expect(
      try start("kill -ABRT $$").waitForExit(upTo: .seconds(60)) == .signalled(SIGABRT))
    let sleeping = try start("exec sleep 1000")
    #expect(sleeping.waitForExit(upTo: .milliseconds(50)) == nil)
    sleeping.kill()
    #expect(sleeping.waitForExit(upTo: .seconds(60)) == .signalled(SIGKILL))
  }

  @Test("inherits no descriptor")
  func inheritsNothing() throws {
    let child = try start("ls /proc/self/fd")
    #expect(child.waitForExit(upTo: .seconds(60)) == .exited(status: 0))
    // The fourth is the directory that `ls` reads.
    #expect(child.standardOutput == "0\n1\n2\n3\n")
  }

  @Test("that cannot be started is an error")
  func missingProgram() throws {
    #expect(throws: HarnessError.self) {
      try ChildProcess("/nonexistent", [], standardErrorPath: directory.file("stderr"))
    }
  }

  @Test("ends when it is let go")
  func endsWhenLetGo() throws {
    var child: ChildProcess? = try start("exec sleep 1000")
    let pid = try #require(child?.pid)
    #expect(kill(pid, 0) == 0)
    child = nil
    #expect(kill(pid, 0) == -1)
  }

  @Test("does not outlive the thread that started it, and so not the process")
  func endsWithItsParent() throws {
    let pid = Guarded<pid_t?>(nil)
    let error = directory.file("stderr")
    Thread.detachNewThread {
      var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("/bin/sleep"), strdup("1000"), nil]
      let started = qemu_harness_spawn(&arguments, "/dev/null", error)
      for argument in arguments { free(argument) }
      pid.withLock { $0 = started }
    }
    let child = try #require(pid.wait(upTo: .seconds(60)) { $0 })
    #expect(child > 0)
    var status: Int32 = 0
    #expect(waitpid(child, &status, 0) == child)
    #expect(status & 0x7f == SIGKILL)
  }

  @Test("a QEMU that cannot start says why")
  func tellsWhy() throws {
    var options = QEMUProcess.Options()
    options.arguments = ["-device", "no-such-device"]
    let error = #expect(throws: HarnessError.self) {
      try QEMUProcess(options, name: "guest", in: directory)
    }
    #expect(error?.description.contains("no-such-device") == true)
  }

  @Test("files and processes of a pair are gone with it")
  func leavesNothing() throws {
    var pair: QEMUPair? = try QEMUPair()
    let path = try #require(pair?.directory.path)
    let pids = try [#require(pair).source.pid, #require(pair).target.pid]
    pair = nil
    #expect(access(path, F_OK) == -1)
    for pid in pids { #expect(kill(pid, 0) == -1) }
  }
}
