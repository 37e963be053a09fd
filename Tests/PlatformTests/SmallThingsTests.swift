import CPlatform
import Glibc
import Testing

@testable import Platform

extension PlatformTests {
  @Suite struct SmallThingsTests {
    @Test func clocksGoForward() {
      let first = MonotonicClock.now
      let second = MonotonicClock.now
      #expect(first > 0 && second >= first)
      // After 2020 and before 2100.
      #expect((1_577_836_800_000_000..<4_102_444_800_000_000).contains(WallClock.nowMicroseconds))
    }

    @Test func theMachineIsAlwaysTheSame() throws {
      let machine = try #require(MachineIdentity.current)
      #expect(machine == MachineIdentity.current)
      // A boot's random number, and where process numbers are at home.
      #expect(machine.wholeMatch(of: #/[0-9a-f-]{36}/pid:\[[0-9]+\]/#) != nil, "\(machine)")
    }

    @Test func errorsAreNamedInEnglish() {
      let error = SystemError(errno: ECONNREFUSED, call: .connect)
      #expect(error.description == "connect: Connection refused (ECONNREFUSED)")
      #expect(
        SystemError(errno: 4711, call: .accept).description == "accept4: unknown error 4711 (E4711)"
      )
      #expect(Set(SystemCall.allCases.map(\.name)).count > 30)
    }

    @Test func anyErrorCanBeForcedOnAnyCallAndOnlyThere() throws {
      #expect(failure { try checked(.rename) { Int32(0) } } == nil)
      for errno in [EPERM, EIO, EAGAIN, ENOSPC] {
        FaultInjection.failing(.rename, errno: errno) {
          #expect(failure { try checked(.open) { Int32(0) } } == nil)
          #expect(failure { try checked(.rename) { Int32(0) } }?.errno == errno)
          #expect(failure { try checked(.rename) { Int32(0) } } == nil)
        }
      }
      let value = try FaultInjection.failing(.rename, errno: EINTR, count: 100) {
        try checked(.rename) { Int32(5) }
      }
      #expect(value == 5)
    }

    @Test func aDescriptorIsClosedOnce() {
      let code = inFork {
        let before = openDescriptors()
        let descriptor = try Descriptor.duplicate(0)
        let number = descriptor.number
        descriptor.close()
        if descriptor.isOpen { return 1 }
        // Somebody else gets the number: a second close must not hit it.
        let other = dup(0)
        if other != number { return 2 }
        descriptor.close()
        if fcntl(other, F_GETFD) < 0 { return 3 }
        close(other)
        let given = try Descriptor.duplicate(0).release()
        if fcntl(given, F_GETFD) < 0 { return 4 }
        close(given)
        return openDescriptors() == before ? 0 : 5
      }
      #expect(code == 0)
    }

    @Test func errorTextIsOneLineCutAtACharacter() {
      ErrorText.set("first\nsecond\ttab")
      #expect(ErrorText.pointer.map { String(cString: $0) } == "first second tab")
      ErrorText.set(String(repeating: "a", count: 510) + "é")
      #expect(ErrorText.pointer.map { String(cString: $0) } == String(repeating: "a", count: 510))
      ErrorText.set(String(repeating: "a", count: 509) + "é and more")
      #expect(
        ErrorText.pointer.map { String(cString: $0) } == String(repeating: "a", count: 509) + "é")
      ErrorText.set(String(repeating: "漢", count: 1000))
      #expect(ErrorText.pointer.map { String(cString: $0) } == String(repeating: "漢", count: 170))
      ErrorText.set("")
      #expect(ErrorText.pointer.map { String(cString: $0) } == "")
    }

    @Test func aForkIsNoticed() throws {
      let guardian = try ForkGuard()
      #expect(!guardian.isForeign)
      #expect(inFork { guardian.isForeign ? 0 : 1 } == 0)
      // Nor does a fork of the fork take its parent for the maker.
      #expect(inFork { inFork { guardian.isForeign ? 0 : 1 } } == 0)
      #expect(!guardian.isForeign)
      let error = FaultInjection.failing(.memoryMap, errno: ENOMEM) {
        failure { _ = try ForkGuard() }
      }
      #expect(error?.errno == ENOMEM)
    }
  }
}
