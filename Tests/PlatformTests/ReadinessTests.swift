import CPlatform
import Glibc
import Testing

@testable import Platform

extension PlatformTests {
  @Suite struct ReadinessTests {
    @Test func reportsTokensAndFlagsOfReadyDescriptors() throws {
      let readiness = try Readiness()
      let (near, far) = try socketPair()
      try readiness.add(near.number, .readable, token: 7)
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(0))
      #expect(!isReadable(readiness.descriptor))

      _ = try send("x", to: far)
      #expect(isReadable(readiness.descriptor))
      #expect(try readiness.wait(timeoutMilliseconds: -1) == .ready(1))
      #expect(readiness[0] == ReadyEntry(token: 7, flags: .readable))
      #expect(readiness[1] == ReadyEntry(token: 0, flags: []))
      #expect(readiness[-1] == ReadyEntry(token: 0, flags: []))

      try readiness.modify(near.number, [.readable, .writable], token: 9)
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(1))
      #expect(readiness[0] == ReadyEntry(token: 9, flags: [.readable, .writable]))

      far.close()
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(1))
      #expect(readiness[0].flags.contains(.hungUp))

      try readiness.remove(near.number)
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(0))
      #expect(!isReadable(readiness.descriptor))
    }

    @Test func reportsTheRestWhenMoreAreReadyThanOneWaitHolds() throws {
      let readiness = try Readiness()
      var pairs: [(Descriptor, Descriptor)] = []
      for index in 0..<(Readiness.entriesPerWait + 20) {
        let pair = try socketPair()
        try readiness.add(pair.0.number, .writable, token: UInt64(index))
        pairs.append(pair)
      }
      var seen = Set<UInt64>()
      for _ in 0..<2 {
        guard case .ready(let count) = try readiness.wait(timeoutMilliseconds: 0) else { continue }
        for index in 0..<count { seen.insert(readiness[index].token) }
      }
      #expect(seen.count == pairs.count)
    }

    @Test func timerIsDueAtItsInstantAndStaysReadableUntilChanged() throws {
      let readiness = try Readiness()
      let instant = MonotonicClock.now + 20_000_000
      try readiness.setTimer(instant)
      #expect(try readiness.wait(timeoutMilliseconds: 20_000) == .ready(0))
      #expect(readiness.timerIsDue)
      #expect(MonotonicClock.now >= instant)
      #expect(isReadable(readiness.descriptor))

      try readiness.setTimer(MonotonicClock.now + 3_600_000_000_000)
      #expect(!isReadable(readiness.descriptor))
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(0))
      #expect(!readiness.timerIsDue)

      for past in [Int64.min, -1, 0, 1] {
        try readiness.setTimer(past)
        #expect(isReadable(readiness.descriptor, withinMilliseconds: 20_000))
      }
      try readiness.setTimer(nil)
      #expect(!isReadable(readiness.descriptor))
    }

    @Test func unchangedTimerAndSignalCostNoSystemCall() throws {
      let readiness = try Readiness()
      try readiness.setTimer(5)
      try readiness.setSignalled(true)
      try FaultInjection.failing(.timerSet, errno: EBADF) { try readiness.setTimer(5) }
      try FaultInjection.failing(.epollControl, errno: EBADF) { try readiness.setSignalled(true) }
      try readiness.setSignalled(false)
      try FaultInjection.failing(.epollControl, errno: EBADF) { try readiness.setSignalled(false) }
    }

    @Test func signalMakesTheDescriptorReadableAndEndsAWait() throws {
      let readiness = try Readiness()
      try readiness.setSignalled(true)
      #expect(isReadable(readiness.descriptor))
      #expect(try readiness.wait(timeoutMilliseconds: -1) == .ready(0))
      #expect(readiness.isSignalled)
      #expect(isReadable(readiness.descriptor))
      try readiness.setSignalled(false)
      #expect(!isReadable(readiness.descriptor))
      #expect(try readiness.wait(timeoutMilliseconds: 0) == .ready(0))
    }

    @Test func aForeignEpollSeesIt() throws {
      let inner = try Readiness()
      let outer = try Readiness()
      try outer.add(inner.descriptor, .readable, token: 1)
      #expect(try outer.wait(timeoutMilliseconds: 0) == .ready(0))
      try inner.setSignalled(true)
      for _ in 0..<3 { #expect(try outer.wait(timeoutMilliseconds: 0) == .ready(1)) }
      try inner.setSignalled(false)
      #expect(try outer.wait(timeoutMilliseconds: 0) == .ready(0))
    }

    @Test func aSignalOfTheHostProgramInterruptsAWait() {
      let code = inFork {
        let readiness = try Readiness()
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGVTALRM, &action, nil)
        sigaction(SIGALRM, &action, nil)
        let moment = timeval(tv_sec: 0, tv_usec: 20_000)
        var timer = itimerval(it_interval: timeval(), it_value: moment)
        // 0 is ITIMER_REAL.
        setitimer(0, &timer, nil)
        return try readiness.wait(timeoutMilliseconds: 15_000) == .interrupted ? 0 : 1
      }
      #expect(code == 0)
    }

    @Test func waitReportsAnInterruptionAndOtherCallsTryAgain() throws {
      let readiness = try Readiness()
      let interrupted = try FaultInjection.failing(.epollWait, errno: EINTR) {
        try readiness.wait(timeoutMilliseconds: 0)
      }
      #expect(interrupted == .interrupted)
      let (near, _) = try socketPair()
      try FaultInjection.failing(.epollControl, errno: EINTR, count: 5) {
        try readiness.add(near.number, .readable, token: 1)
      }
    }

    @Test func reservedTokensAndForeignDescriptorsAreRefused() throws {
      let readiness = try Readiness()
      let (near, _) = try socketPair()
      #expect(failure { try readiness.add(near.number, .readable, token: .max) }?.errno == EINVAL)
      #expect(failure { try readiness.add(-1, .readable, token: 1) }?.errno == EBADF)
      #expect(failure { try readiness.remove(near.number) }?.errno == ENOENT)
    }

    @Test func eachFailureWhileMakingOneLeavesNothingOpen() {
      let code = inFork {
        let before = openDescriptors()
        for call in [SystemCall.epollCreate, .timerCreate, .eventCreate, .write, .epollControl] {
          let error = FaultInjection.failing(call, errno: EMFILE) {
            failure { _ = try Readiness() }
          }
          if error != SystemError(errno: EMFILE, call: call) { return 1 }
        }
        return openDescriptors() == before ? 0 : 2
      }
      #expect(code == 0)
    }

    @Test func allDescriptorsAreClosedOnExecAndAfterUse() {
      let code = inFork {
        let before = openDescriptors()
        var readiness: Readiness? = try Readiness()
        let made = openDescriptors().subtracting(before)
        if made.count != 3 { return 1 }
        if !made.allSatisfy(isClosedOnExec) { return 2 }
        readiness?.close()
        if openDescriptors() != before { return 3 }
        if readiness?.descriptor != -1 { return 4 }
        readiness = nil
        return openDescriptors() == before ? 0 : 5
      }
      #expect(code == 0)
    }
  }
}
