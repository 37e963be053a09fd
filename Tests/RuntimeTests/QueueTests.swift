import Testing

@testable import Runtime

/// A member that only counts what it is called for.
final class CountingMember: LoopMember {
  var deadlines = 0
  var records = 0
  var postponements = 0
  /// What to do at a deadline.
  var onDeadline: (() -> Void)?

  override func deadlineReached() {
    deadlines += 1
    onDeadline?()
  }
  override func storeRecord() { records += 1 }
  override func continuePostponed() { postponements += 1 }
}

/// Numbers that are the same in every run.
private struct Numbers: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ (state >> 29)
  }
}

extension RuntimeTests {
  @Suite struct QueueTests {
    @Test func deadlinesComeInOrderHoweverTheyAreMoved() throws {
      let loop = try Loop()
      let members = (0..<64).map { _ in CountingMember(in: loop) }
      var queue = DeadlineQueue()
      var expected: [ObjectIdentifier: Int64] = [:]
      var numbers = Numbers(state: 1)
      for _ in 0..<20_000 {
        guard let member = members.randomElement(using: &numbers) else { continue }
        let instant: Int64? =
          Int.random(in: 0..<4, using: &numbers) == 0
          ? nil : .random(in: -50...50, using: &numbers)
        queue.set(member, to: instant)
        expected[ObjectIdentifier(member)] = instant
        #expect(queue.earliest == expected.values.min())
        if Int.random(in: 0..<8, using: &numbers) == 0 {
          let now = Int64.random(in: -60...60, using: &numbers)
          while let due = queue.removeDue(at: now) {
            let instant = expected.removeValue(forKey: ObjectIdentifier(due))
            #expect((instant ?? .max) <= now)
            #expect(due.deadlinePosition == nil)
          }
          #expect((queue.earliest ?? .max) > now)
        }
      }
    }

    @Test func progressIsKeptOnceAndTheNewestCounts() throws {
      let loop = try Loop()
      let member = CountingMember(in: loop)
      var queue = EventQueue()
      for _ in 0..<1000 { queue.append(event(.progressed, member)) }
      #expect(queue.count == 1)
      #expect(queue.removeFirst() != nil)
      #expect(queue.removeFirst() == nil)
      queue.append(event(.progressed, member))
      #expect(queue.count == 1)
    }

    @Test func logLinesGiveWayFirstAndWhatMattersNever() throws {
      let loop = try Loop()
      let (member, other) = (CountingMember(in: loop), CountingMember(in: loop))
      var queue = EventQueue()
      queue.append(event(.handOverWanted, member))
      queue.append(event(.warning("first"), member))
      queue.append(event(.log("other's"), other))
      for number in 0..<10_000 { queue.append(event(.log("\(number)"), member)) }
      for _ in 0..<10_000 { queue.append(event(.phaseChanged(.transferring), member)) }
      queue.append(event(.finished, member))
      #expect(queue.count <= EventQueue.memberLimit + 2)
      #expect(member.queuedEvents + other.queuedEvents == queue.count)

      var kept: [String] = []
      while let next = queue.removeFirst() { kept.append("\(next.content)") }
      #expect(kept.first == "handOverWanted")
      #expect(kept.last == "finished")
      #expect(kept.contains(#"warning("first")"#))
      #expect(kept.contains(#"log("other\'s")"#) || kept.contains(#"log("other's")"#))
      #expect(queue.isEmpty && member.queuedEvents == 0 && other.queuedEvents == 0)
    }

    @Test func eventsOfAMemberThatLeavesLeaveWithIt() throws {
      let loop = try Loop()
      let (member, other) = (CountingMember(in: loop), CountingMember(in: loop))
      for number in 0..<200 {
        loop.post(.log("\(number)"), from: number.isMultiple(of: 2) ? member : other)
      }
      member.close()
      #expect(loop.waitingEvents == 100)
      var count = 0
      while let event = try loop.nextEvent() {
        #expect(event.member === other)
        count += 1
      }
      #expect(count == 100)
    }

    @Test func aTokenNeverReachesThePlacesNextTenant() {
      var table = WatcherTable()
      let (first, second) = (Watcher(), Watcher())
      let token = table.insert(first)
      #expect(table[token] === first)
      table.remove(token)
      let next = table.insert(second)
      #expect(next != token)
      #expect(table[token] == nil)
      #expect(table[next] === second)
      table.remove(token)
      #expect(table[next] === second)
      #expect(table[UInt64.max >> 1] == nil)
    }

    private func event(_ content: LoopEvent.Content, _ member: LoopMember) -> LoopEvent {
      LoopEvent(member: member, content: content, byteCount: 0)
    }
  }
}
