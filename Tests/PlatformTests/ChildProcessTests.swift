import CPlatform
import Glibc
import Testing

@testable import Platform

/// Everything that comes out of a descriptor until its end.
private func readAll(_ number: Int32) -> String {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(number, &buffer, buffer.count)
    if count <= 0 { break }
    bytes += buffer.prefix(count)
  }
  return String(decoding: bytes, as: UTF8.self)
}

/// What a program prints.
private func output(of arguments: [String]) throws -> String {
  var pipes: [Int32] = [-1, -1]
  try #require(pipe(&pipes) == 0)
  let reader = Descriptor(owning: pipes[0])
  let writer = Descriptor(owning: pipes[1])
  let child = try ChildProcess(arguments: arguments, output: writer.number)
  writer.close()
  let text = readAll(reader.number)
  #expect(waitForEnd(of: child) == .exited(code: 0))
  return text
}

extension PlatformTests {
  @Suite struct ChildProcessTests {
    @Test func tellsHowAChildEnded() throws {
      let exited = try ChildProcess(arguments: ["sh", "-c", "exit 7"])
      #expect(waitForEnd(of: exited) == .exited(code: 7))
      #expect(exited.reap() == .exited(code: 7))

      let stopped = try ChildProcess(arguments: ["sleep", "1000"])
      #expect(stopped.reap() == .running)
      #expect(isClosedOnExec(try #require(stopped.exitDescriptor).number))
      stopped.terminate()
      #expect(waitForEnd(of: stopped) == .signalled(signal: SIGTERM))
      stopped.kill()
      #expect(stopped.reap() == .signalled(signal: SIGTERM))
    }

    @Test func refusesWhatCannotBeStarted() {
      #expect(failure { _ = try ChildProcess(arguments: []) }?.errno == EINVAL)
      #expect(failure { _ = try ChildProcess(arguments: ["a\0b"]) }?.errno == EINVAL)
      #expect(
        failure { _ = try ChildProcess(arguments: ["/nonexistent/program"]) }
          == SystemError(errno: ENOENT, call: .spawn))
      #expect(
        failure { _ = try ChildProcess(arguments: ["true"], input: 999) }
          == SystemError(errno: EBADF, call: .duplicate))
    }

    @Test func theChildHasTheThreeDescriptorsAlone() throws {
      // One that would be inherited by a plain fork and exec.
      let stray = open("/dev/null", O_RDONLY)
      defer { close(stray) }
      let listing = try output(of: ["sh", "-c", "echo /proc/self/fd/*"])
      // The shell's own glob opens the directory itself.
      let numbers = Set(
        listing.split(whereSeparator: \.isWhitespace).compactMap {
          Int($0.split(separator: "/").last ?? "")
        })
      #expect(numbers.isSuperset(of: [0, 1, 2]))
      #expect(!numbers.contains(Int(stray)) || stray == 3)
      let links = try output(of: ["sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/2"])
      #expect(links == "/dev/null\n/dev/null\n")
    }

    @Test func descriptorsMayBeCrossed() {
      let code = inFork {
        var pipes: [Int32] = [-1, -1]
        if pipe(&pipes) != 0 { return 1 }
        // Our 0 is the pipe's writing end, our 1 its reading end; the child wants them the other
        // way round.
        dup2(pipes[1], 0)
        dup2(pipes[0], 1)
        close(pipes[0])
        close(pipes[1])
        let child = try ChildProcess(arguments: ["echo", "crossed"], input: 1, output: 0)
        close(0)
        if waitForEnd(of: child) != .exited(code: 0) { return 2 }
        return readAll(1) == "crossed\n" ? 0 : 3
      }
      #expect(code == 0)
    }

    @Test func signalsAndSessionOfTheHostProgramDoNotReachTheChild() {
      let code = inFork {
        signal(SIGINT, SIG_IGN)
        signal(SIGPIPE, SIG_IGN)
        signal(SIGUSR1, SIG_IGN)
        var mask = sigset_t()
        sigfillset(&mask)
        sigdelset(&mask, SIGALRM)
        sigprocmask(SIG_SETMASK, &mask, nil)
        let text = try output(of: ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
        // Signals 32 and 33 are the C library's own; nobody can send them.
        let own: UInt64 = 0x1_8000_0000
        for line in text.split(separator: "\n") {
          guard let mask = UInt64(line.split(separator: "\t").last ?? "", radix: 16) else {
            return 1
          }
          if mask & ~own != 0 { return 1 }
        }
        let child = try ChildProcess(arguments: ["sleep", "1000"])
        let foreign = getsid(child.processIdentifier) == child.processIdentifier
        child.kill()
        return foreign ? 0 : 2
      }
      #expect(code == 0)
    }

    @Test func worksWhereTheHostProgramIgnoresItsChildren() {
      let code = inFork {
        signal(SIGCHLD, SIG_IGN)
        for _ in 0..<20 {
          let quick = try ChildProcess(arguments: ["true"])
          if waitForEnd(of: quick) != .alreadyReaped { return 1 }
        }
        let slow = try ChildProcess(arguments: ["sleep", "1000"])
        if slow.reap() != .running { return 2 }
        slow.kill()
        return waitForEnd(of: slow) == .alreadyReaped ? 0 : 3
      }
      #expect(code == 0)
    }

    @Test func worksWhereTheHostProgramCollectsEveryChild() {
      let code = inFork {
        let child = try ChildProcess(arguments: ["sleep", "1000"])
        child.kill()
        if waitpid(-1, nil, 0) != child.processIdentifier { return 1 }
        if child.reap() != .alreadyReaped { return 2 }
        child.kill()
        return 0
      }
      #expect(code == 0)
    }

    @Test func othersChildrenAreLeftAlone() {
      let code = inFork {
        let own = fork()
        if own == 0 { _exit(3) }
        let child = try ChildProcess(arguments: ["true"])
        if waitForEnd(of: child) != .exited(code: 0) { return 1 }
        var status: Int32 = 0
        return waitpid(own, &status, 0) == own && status == 3 << 8 ? 0 : 2
      }
      #expect(code == 0)
    }

    @Test func aForkedCopyTouchesNothing() throws {
      let child = try ChildProcess(arguments: ["sleep", "1000"])
      let code = inFork {
        child.kill()
        return child.reap() == .running ? 0 : 1
      }
      #expect(code == 0)
      #expect(child.reap() == .running)
      child.kill()
      #expect(waitForEnd(of: child) == .signalled(signal: SIGKILL))
    }

    @Test func aChildThatCannotBeWatchedIsNotKept() {
      let code = inFork {
        let before = openDescriptors()
        let error = FaultInjection.failing(.pidfdOpen, errno: EMFILE) {
          failure { _ = try ChildProcess(arguments: ["sleep", "1000"]) }
        }
        if error != SystemError(errno: EMFILE, call: .pidfdOpen) { return 1 }
        if waitpid(-1, nil, Int32(WNOHANG)) != -1 { return 2 }
        return openDescriptors() == before ? 0 : 3
      }
      #expect(code == 0)
    }
  }
}
