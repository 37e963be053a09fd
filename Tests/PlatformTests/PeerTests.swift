import CPlatform
import Glibc
import Testing

@testable import Platform

/// Starts a copy of sleep(1) named `name`.
private func start(_ name: String, in directory: TemporaryDirectory) throws -> ChildProcess {
  let path = directory.path + "/" + name
  let copy = try ChildProcess(arguments: ["cp", "/bin/sleep", path])
  #expect(waitForEnd(of: copy) == .exited(code: 0))
  return try ChildProcess(arguments: [path, "1000"])
}

extension PlatformTests {
  @Suite struct PeerTests {
    let directory = TemporaryDirectory()

    @Test func namesTheProcessThatListensAndProvesItsExit() throws {
      let path = directory.path + "/s"
      let (near, far) = try socketPair()
      let pid = fork()
      if pid == 0 {
        // The child listens; then it waits for its end.
        alarm(60)
        let listener = try? listenAt(path)
        _ = try? send(listener == nil ? "n" : "y", to: far)
        near.close()
        while true { pause() }
      }
      #expect(isReadable(near.number, withinMilliseconds: 20_000))
      let connection = try StreamSocket.connect(to: SocketAddress(unixPath: path))
      let peer = try #require(SocketPeer(of: connection.descriptor))
      #expect(peer.credentials.processIdentifier == pid)
      #expect(peer.credentials.userIdentifier == geteuid())
      #expect(peer.identity?.processIdentifier == pid)
      #expect(peer.executableName != nil)
      #expect(!peer.isQEMU)
      #expect(peer.liveness() == .alive)
      let identity = try #require(peer.identity)
      #expect(identity.liveness() == .alive)
      let earlier = ProcessIdentity(
        processIdentifier: pid, startTime: identity.startTime - 1)
      #expect(earlier.liveness() == .unknown)
      let exit = try #require(peer.exitDescriptor)
      #expect(!isReadable(exit.number))

      kill(pid, SIGKILL)
      #expect(isReadable(exit.number, withinMilliseconds: 20_000))
      #expect(peer.liveness() == .exited)
      // A zombie: its number is still taken, and that it can never run again is already proven.
      #expect(identity.liveness() == .exited)
      waitpid(pid, nil, 0)
      #expect(peer.liveness() == .exited)
      #expect(identity.liveness() == .exited)
    }

    @Test func tellsAStreamThatEndedWithItsProcessFromOneThatWasClosed() throws {
      let path = directory.path + "/s"
      for isKilled in [true, false, true, true] {
        let (near, far) = try socketPair()
        let pid = fork()
        if pid == 0 {
          alarm(60)
          let listener = try? listenAt(path)
          _ = try? send(listener == nil ? "n" : "y", to: far)
          near.close()
          // Whoever connects is shut out when told so, or when all ends.
          var byte: UInt8 = 0
          while read(far.number, &byte, 1) < 0 {}
          listener?.close()
          while true { pause() }
        }
        far.close()
        #expect(isReadable(near.number, withinMilliseconds: 20_000))
        let connection = try StreamSocket.connect(to: SocketAddress(unixPath: path))
        let peer = try #require(SocketPeer(of: connection.descriptor))
        #expect(!peer.isEnding)
        if isKilled { kill(pid, SIGKILL) } else { _ = try send("x", to: near) }
        #expect(isReadable(connection.descriptor.number, withinMilliseconds: 20_000))
        // At once: nothing has to be waited for after the end of the stream.
        #expect(peer.isEnding == isKilled)
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        #expect(peer.isEnding)
        unlink(path)
      }
    }

    @Test func knowsAQEMUByItsProgram() throws {
      for (name, expected) in [("qemu-system-x86_64", true), ("kvm", true), ("kvmtool", false)] {
        let child = try start(name, in: directory)
        #expect(
          SocketPeer.isQEMU(executableName: SocketPeer.executableName(of: child.processIdentifier))
            == expected)
        child.kill()
        _ = waitForEnd(of: child)
      }
    }

    @Test func aConnectionWithoutANamedPeerHasNone() throws {
      let (listener, port) = try listenOnLoopback()
      let address = try #require(SocketAddress(numericHost: "127.0.0.1", port: port))
      let connection = try StreamSocket.connect(to: address)
      #expect(SocketPeer(of: connection.descriptor) == nil)
      _ = listener
    }

    @Test func anExitedPeerHasNoIdentityOfAnother() throws {
      let path = directory.path + "/s"
      let code = inFork {
        _ = try listenAt(path)
        // The listening socket must outlive its maker for a connection to come about.
        return 0
      }
      #expect(code == 0)
      let (near, far) = try socketPair()
      // A pair made by a process that ended: its credentials name nobody who lives.
      let pid = fork()
      if pid == 0 { _exit(0) }
      waitpid(pid, nil, 0)
      #expect(ProcessIdentity(processIdentifier: pid, startTime: 1).liveness() == .exited)
      let own = try #require(SocketPeer(of: near))
      #expect(own.credentials.processIdentifier == getpid())
      _ = far
    }

    @Test func forcedFailuresAreNoProof() throws {
      let own = try #require(ProcessStatus(of: getpid()))
      let identity = ProcessIdentity(processIdentifier: getpid(), startTime: own.startTime)
      #expect(identity.liveness() == .alive)
      for errno in [EMFILE, EPERM, ENOSYS, EINVAL] {
        let answer = FaultInjection.failing(.pidfdOpen, errno: errno) { identity.liveness() }
        #expect(answer == .unknown)
      }
      let poll = FaultInjection.failing(.pidfdPoll, errno: ENOMEM) { identity.liveness() }
      #expect(poll == .unknown)
      let (near, _) = try socketPair()
      let peer = FaultInjection.failing(.getSocketOption, errno: ENOPROTOOPT, skip: 1) {
        SocketPeer(of: near)
      }
      #expect(peer?.liveness() == .alive)
    }

    @Test func readsTheStatusLineWhateverTheProgramIsCalled() {
      let rest = "S 17 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654321 20 21"
      for name in ["(cat)", "(a) b) (c)", "(\n) 1 2)"] {
        let status = ProcessStatus(line: "4711 \(name) \(rest)")
        #expect(status?.parent == 17)
        #expect(status?.startTime == 987_654_321)
        #expect(status?.isExiting == true)
      }
      for line in [
        "", "1 (x)", "1 (x S 2", "1 (x) S 2 3", "1 (x) S y" + String(repeating: " 1", count: 30),
      ] {
        #expect(ProcessStatus(line: line) == nil)
      }
    }

    @Test func countsTheClientsThatWaitAtAListener() throws {
      let path = directory.path + "/s"
      let queue = ListenerQueue(path: path)
      #expect(queue.waitingClients() == nil)
      let listener = try listenAt(path, backlog: 1)
      var clients: [Connection] = []
      #expect(queue.waitingClients() == 0)
      for expected in 1...2 {
        clients.append(try StreamSocket.connect(to: SocketAddress(unixPath: path)))
        #expect(queue.waitingClients() == expected)
      }
      let accepted = Descriptor(owning: swp_accept(listener.number))
      #expect(queue.waitingClients() == 1)
      _ = accepted
      // A client that gave up still stands in the queue until it is accepted.
      clients.removeAll()
      #expect(queue.waitingClients() == 1)
    }

    @Test func followsAPathToItsNewListener() throws {
      let path = directory.path + "/s"
      let queue = ListenerQueue(path: path)
      var first: Descriptor? = try listenAt(path)
      let client = try StreamSocket.connect(to: SocketAddress(unixPath: path))
      #expect(queue.waitingClients() == 1)
      // The old listener lives on without a name: the path is what counts for a fresh question.
      unlink(path)
      let second = try listenAt(path)
      #expect(ListenerQueue(path: path).waitingClients() == 0)
      first?.close()
      first = nil
      #expect(queue.waitingClients() == 0)
      _ = (client, second)
      // By another spelling of the same path.
      symlink(directory.path, directory.path + "/link")
      #expect(ListenerQueue(path: directory.path + "/link/s").waitingClients() == 0)
    }

    @Test func whereTheKernelDoesNotTellTheNumberIsUnknown() throws {
      let path = directory.path + "/s"
      let listener = try listenAt(path)
      for (skip, errno) in [(0, EPERM), (0, EPROTONOSUPPORT), (1, ENOENT), (2, EACCES)] {
        let queue = ListenerQueue(path: path)
        let answer = FaultInjection.failing(.netlink, errno: errno, skip: Int32(skip)) {
          queue.waitingClients()
        }
        #expect(answer == nil)
        #expect(queue.waitingClients() == 0)
      }
      _ = listener
    }
  }
}
