import Foundation
import Platform
import Testing

@testable import Runtime

extension RuntimeTests {
  @Suite struct LoopTests {
    @Test func theDescriptorIsReadableExactlyWhileThereIsSomething() throws {
      let loop = try Loop()
      let member = CountingMember(in: loop)
      #expect(!loop.isReadable)
      #expect(try loop.dispatch(timeoutMilliseconds: 0) == 0)

      loop.post(.log("one"), from: member)
      loop.post(.log("two"), from: member)
      try loop.settle()
      #expect(loop.isReadable)
      #expect(try loop.dispatch(timeoutMilliseconds: -1) == 2)
      #expect(loop.isReadable)
      _ = try loop.nextEvent()
      #expect(loop.isReadable)
      _ = try loop.nextEvent()
      #expect(!loop.isReadable)
      #expect(try loop.nextEvent() == nil)

      loop.setDeadline(member, MonotonicClock.now - 1)
      try loop.settle()
      #expect(eventually { loop.isReadable })
      _ = try loop.dispatch(timeoutMilliseconds: 0)
      #expect(member.deadlines == 1)
      #expect(!loop.isReadable)

      loop.postpone(member)
      try loop.settle()
      #expect(loop.isReadable)
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(member.postponements == 1)
      #expect(!loop.isReadable)
    }

    @Test func aDeadlineThatStaysDueDoesNotHoldTheTurnUp() throws {
      let loop = try Loop()
      let (stuck, other) = (CountingMember(in: loop), CountingMember(in: loop))
      stuck.onDeadline = { loop.setDeadline(stuck, 1) }
      loop.setDeadline(stuck, 1)
      loop.setDeadline(other, 2)
      try loop.settle()
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(stuck.deadlines == 1 && other.deadlines == 1)
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(stuck.deadlines == 2 && other.deadlines == 1)
    }

    @Test func runEndsAtItsTimeAlsoWithEventsWaiting() throws {
      let loop = try Loop()
      let member = CountingMember(in: loop)
      loop.post(.log("waits"), from: member)
      let begin = MonotonicClock.now
      #expect(try !loop.run(forMilliseconds: 50) { false })
      #expect(MonotonicClock.now - begin >= 50_000_000)
      #expect(loop.isReadable)
      #expect(loop.waitingEvents == 1)
      // Without time it still has one turn.
      loop.setDeadline(member, 1)
      #expect(try !loop.run(forMilliseconds: 0) { false })
      #expect(member.deadlines == 1)
      #expect(try loop.run(forMilliseconds: .max) { true })
    }

    @Test func aSignalEndsTheWaitAndNothingElse() {
      let code = inFork {
        let loop = try Loop()
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGALRM, &action, nil)
        let moment = timeval(tv_sec: 0, tv_usec: 20_000)
        var timer = itimerval(it_interval: timeval(), it_value: moment)
        // 0 is ITIMER_REAL.
        setitimer(0, &timer, nil)
        do throws(LoopError) {
          _ = try loop.dispatch(timeoutMilliseconds: 15_000)
          return 1
        } catch {
          if error != .interrupted { return 2 }
        }
        setitimer(0, &timer, nil)
        do throws(LoopError) {
          _ = try loop.run(forMilliseconds: 15_000) { false }
          return 3
        } catch {
          if error != .interrupted { return 4 }
        }
        return try loop.dispatch(timeoutMilliseconds: 0) == 0 ? 0 : 5
      }
      #expect(code == 0)
    }

    @Test func recordsWaitForGuestsThatStandButNotForEver() throws {
      let loop = try Loop()
      let (first, second) = (CountingMember(in: loop), CountingMember(in: loop))
      loop.store(first)
      loop.store(second)
      loop.store(first)
      try loop.settle()
      // One a turn: storing blocks.
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(first.records == 1 && second.records == 0)
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(first.records == 1 && second.records == 1)
      #expect(!loop.isReadable)

      loop.guestStands(true)
      loop.store(first)
      try loop.settle()
      #expect(!loop.isReadable)
      _ = try loop.dispatch(timeoutMilliseconds: 0)
      #expect(first.records == 1)
      loop.guestStands(false)
      try loop.settle()
      #expect(loop.isReadable)
      _ = try loop.dispatch(timeoutMilliseconds: -1)
      #expect(first.records == 2)

      loop.guestStands(true)
      let begin = MonotonicClock.now
      loop.store(second)
      #expect(try loop.wait { second.records == 2 })
      #expect(MonotonicClock.now - begin >= Loop.recordDelayLimit)
    }

    @Test func afterCloseEverythingAnswersClosed() throws {
      let loop = try Loop()
      let member = CountingMember(in: loop)
      loop.close()
      loop.close()
      #expect(member.loop == nil)
      #expect(throws: LoopError.closed) { try loop.dispatch(timeoutMilliseconds: 0) }
      #expect(throws: LoopError.closed) { try loop.nextEvent() }
      #expect(throws: LoopError.closed) { try loop.run(forMilliseconds: 0) { true } }
      #expect(loop.descriptor == -1)
      member.close()
    }

    @Test func aForkAnswersForkedAndItsClosingHarmsNobody() throws {
      let directory = try TestDirectory()
      let monitor = try ScriptedMonitor(in: directory)
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try readyClient(in: loop, at: monitor.path)
      let code = inFork {
        do throws(LoopError) {
          _ = try loop.dispatch(timeoutMilliseconds: 0)
          return 1
        } catch { if error != .forked { return 2 } }
        do throws(LoopError) {
          _ = try loop.nextEvent()
          return 3
        } catch { if error != .forked { return 4 } }
        do throws(SubmitError) {
          _ = try client.submit("query-status", arguments: nil, within: .seconds(1))
          return 5
        } catch { if error != .forked { return 6 } }
        client.close()
        loop.close()
        return loop.descriptor == -1 ? 0 : 7
      }
      #expect(code == 0)
      // The parent's connection lives, and its loop still watches it.
      let reply = try client.execute("query-status", arguments: nil, within: .seconds(20))
      #expect(reply?.outcome == .returned(Array("{}".utf8)))
      #expect(monitor.departures == 0)
    }

    @Test func aConnectionEndsAlsoWhileAForkHoldsACopy() throws {
      let directory = try TestDirectory()
      let monitor = try ScriptedMonitor(in: directory)
      defer { monitor.stop() }
      let loop = try Loop()
      let client = try readyClient(in: loop, at: monitor.path)
      let child = fork()
      if child == 0 {
        alarm(60)
        while true { pause() }
      }
      defer {
        kill(child, SIGKILL)
        waitpid(child, nil, 0)
      }
      client.close()
      #expect(eventually { monitor.departures == 1 })
      // The copy in the child is not watched any more: nothing wakes the loop.
      #expect(!loop.isReadable)
    }

    @Test func nothingStaysOpen() throws {
      let directory = try TestDirectory()
      let monitor = try ScriptedMonitor(in: directory)
      defer { monitor.stop() }
      _ = try Loop()
      let before = openDescriptors()
      for round in 0..<20 {
        let loop = try Loop()
        let client = try readyClient(in: loop, at: monitor.path)
        if round.isMultiple(of: 2) { client.close() }
        loop.close()
        client.close()
      }
      #expect(eventually { openDescriptors() <= before })
    }
  }
}
