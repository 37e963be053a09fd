import CPlatform
import Glibc
import Testing

@testable import Platform

private func exists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}

private func mode(of path: String) -> mode_t {
  var status = stat()
  lstat(path, &status)
  return status.st_mode & 0o7777
}

private func make(_ path: String, _ text: String, mode: mode_t = 0o600) {
  let file = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode)
  _ = Glibc.write(file, text, text.utf8.count)
  fchmod(file, mode)
  close(file)
}

extension PlatformTests {
  @Suite struct FilesTests {
    let directory = TemporaryDirectory()

    @Test func aPrivateDirectoryIsPrivateAndGoesAway() throws {
      var path = ""
      do {
        let made = try PrivateDirectory(candidates: [directory.path])
        path = made.path
        #expect(path.hasPrefix(directory.path + "/switchover-"))
        #expect(mode(of: path) == 0o700)
        make(path + "/one", "")
        make(directory.path + "/outside", "keep")
        symlink(directory.path + "/outside", path + "/link")
        let listener = try UnixListener(in: made, name: "s")
        #expect(exists(listener.path))
        try made.removeEntry("one")
        try made.removeEntry("one")
        #expect(!exists(path + "/one"))
      }
      #expect(!exists(path))
      #expect(exists(directory.path + "/outside"))
    }

    @Test func aForkedCopyRemovesNothing() throws {
      let made = try PrivateDirectory(candidates: [directory.path])
      let code = inFork {
        made.remove()
        return exists(made.path) ? 0 : 1
      }
      #expect(code == 0)
      made.remove()
      #expect(!exists(made.path))
    }

    @Test func unsafeParentsAreSkipped() throws {
      let open = directory.path + "/open"
      mkdir(open, 0o777)
      chmod(open, 0o777)
      let link = directory.path + "/link"
      symlink(directory.path, link)
      for parent in [open, link, directory.path + "/none", "/dev/null"] {
        #expect(throws: SystemError.self) { try PrivateDirectory(candidates: [parent]) }
      }
      chmod(open, 0o1777)
      let made = try PrivateDirectory(candidates: [link, directory.path + "/none", open])
      #expect(made.path.hasPrefix(open + "/"))
      let standard = try PrivateDirectory()
      #expect(mode(of: standard.path) == 0o700)
    }

    @Test func socketNamesAreCheckedAgainstTheAddress() throws {
      let made = try PrivateDirectory(candidates: [directory.path])
      let room = SocketAddress.unixPathLimit - made.path.utf8.count - 1
      let longest = String(repeating: "n", count: room)
      #expect(try made.socketPath(longest).utf8.count == 107)
      #expect(failure { _ = try made.socketPath(longest + "n") }?.errno == ENAMETOOLONG)
      for name in ["", ".", "..", "a/b", "a\0b", ".hidden"] {
        #expect(failure { _ = try made.socketPath(name) }?.errno == EINVAL)
      }
    }

    @Test func aListenerNamesItsClients() throws {
      let made = try PrivateDirectory(candidates: [directory.path])
      let listener = try UnixListener(in: made, name: "relay")
      #expect(isClosedOnExec(listener.descriptor.number))
      #expect(try listener.accept() == nil)
      let client = try StreamSocket.connect(to: SocketAddress(unixPath: listener.path))
      let accepted = try #require(try listener.accept())
      #expect(accepted.peer.processIdentifier == getpid())
      #expect(accepted.peer.userIdentifier == geteuid())
      #expect(isClosedOnExec(accepted.descriptor.number))
      #expect(try receive(accepted.descriptor).0 == .wouldBlock)
      let gone = try FaultInjection.failing(.accept, errno: ECONNABORTED) { try listener.accept() }
      #expect(gone == nil)
      FaultInjection.failing(.accept, errno: EMFILE) {
        #expect(failure { _ = try listener.accept() }?.errno == EMFILE)
      }
      #expect(failure { _ = try UnixListener(in: made, name: "relay") }?.errno == EADDRINUSE)
      _ = client
    }

    @Test func aJournalIsReplacedAsAWholeAndKeepsItsLock() throws {
      let path = directory.path + "/journal"
      #expect(throws: JournalError.system(SystemError(errno: ENOENT, call: .open))) {
        try JournalFile(path: path, create: false)
      }
      let journal = try JournalFile(path: path, create: true)
      #expect(mode(of: path) == 0o600)
      #expect(try journal.read(limit: 0) == [])
      for text in ["intent", "outcome, which is longer", "x"] {
        try journal.replace(with: Array(text.utf8))
        #expect(try journal.read(limit: 100) == Array(text.utf8))
        #expect(mode(of: path) == 0o600)
        #expect(!exists(path + ".new"))
        #expect(throws: JournalError.held) { try JournalFile(path: path, create: true) }
        #expect(
          inFork {
            do throws(JournalError) {
              _ = try JournalFile(path: path, create: false)
              return 2
            } catch {
              return error == .held ? 0 : 1
            }
          } == 0)
      }
      #expect(throws: JournalError.tooLarge(limit: 0)) { try journal.read(limit: 0) }
      try journal.remove()
      #expect(!exists(path))
    }

    @Test func aJournalWhoseHolderDiedCanBeOpened() throws {
      let path = directory.path + "/journal"
      let code = inFork {
        let journal = try JournalFile(path: path, create: true)
        try journal.replace(with: Array("left behind".utf8))
        make(path + ".new", "half a rec")
        withExtendedLifetime(journal) { _ = kill(getpid(), SIGKILL) }
        return 1
      }
      #expect(code == -SIGKILL)
      let journal = try JournalFile(path: path, create: false)
      #expect(try journal.read(limit: 100) == Array("left behind".utf8))
      try journal.replace(with: Array("recovered".utf8))
      #expect(try journal.read(limit: 100) == Array("recovered".utf8))
    }

    @Test func aJournalThatIsNotOursIsNotTrusted() throws {
      func reason(_ name: String) -> String? {
        do {
          _ = try JournalFile(path: directory.path + "/" + name, create: true)
        } catch { if case .untrusted(let reason) = error { return reason } }
        return nil
      }
      make(directory.path + "/real", "")
      symlink(directory.path + "/real", directory.path + "/link")
      #expect(reason("link") == "it is a symbolic link")
      make(directory.path + "/open", "", mode: 0o640)
      #expect(reason("open") == "others than its owner may use it")
      link(directory.path + "/real", directory.path + "/second")
      #expect(reason("real") == "it has more than one name")
      mkfifo(directory.path + "/pipe", 0o600)
      #expect(reason("pipe") == "it is not a regular file")
      if geteuid() == 0 {
        make(directory.path + "/other", "")
        chown(directory.path + "/other", 65534, 0)
        #expect(reason("other") == "user 65534 owns it")
      }
    }

    @Test func aFailedReplacementLeavesTheOldContent() throws {
      let path = directory.path + "/journal"
      let journal = try JournalFile(path: path, create: true)
      try journal.replace(with: Array("old".utf8))
      for (call, code) in [
        (SystemCall.open, EMFILE), (.lock, ENOLCK), (.write, ENOSPC), (.synchronize, EIO),
        (.rename, EACCES),
      ] {
        #expect(throws: JournalError.system(SystemError(errno: code, call: call))) {
          try FaultInjection.failing(call, errno: code) {
            try journal.replace(with: Array("new".utf8))
          }
        }
        #expect(try journal.read(limit: 100) == Array("old".utf8))
        #expect(!exists(path + ".new"))
        #expect(throws: JournalError.held) { try JournalFile(path: path, create: false) }
      }
      // The directory's own fsync fails: the new content is there, and not proven durable.
      #expect(throws: JournalError.system(SystemError(errno: EIO, call: .synchronize))) {
        try FaultInjection.failing(.synchronize, errno: EIO, skip: 1) {
          try journal.replace(with: Array("new".utf8))
        }
      }
      #expect(try journal.read(limit: 100) == Array("new".utf8))
      try FaultInjection.failing(.synchronize, errno: EINTR, count: 3) {
        try journal.replace(with: Array("after signals".utf8))
      }
    }

    @Test func filesLeaveNoDescriptorBehind() {
      let path = directory.path
      let code = inFork {
        let before = openDescriptors()
        for _ in 0..<10 {
          let made = try PrivateDirectory(candidates: [path])
          _ = try UnixListener(in: made, name: "s")
          let journal = try JournalFile(path: path + "/journal", create: true)
          try journal.replace(with: [1, 2, 3])
          _ = try? JournalFile(path: path + "/journal", create: true)
        }
        return openDescriptors() == before ? 0 : 1
      }
      #expect(code == 0)
    }
  }
}
