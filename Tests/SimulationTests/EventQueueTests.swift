import MigrationEngine
import Testing

@testable import Simulation

@Suite("Event queue")
struct EventQueueTests {
  @Test("what is due first comes first, and of two at one instant the first scheduled")
  func order() {
    var random = RandomSource(seed: 3)
    var queue = EventQueue<Int>()
    var expected: [(time: Int64, number: Int)] = []
    for number in 0..<500 {
      let time = random.number(in: 0...20)
      queue.schedule(number, at: MonotonicInstant(nanoseconds: time))
      expected.append((time, number))
    }
    expected.sort { ($0.time, $0.number) < ($1.time, $1.number) }
    var taken: [Int] = []
    while let next = queue.takeNext() { taken.append(next.event) }
    #expect(taken == expected.map(\.number))
    #expect(queue.isEmpty)
  }
}
