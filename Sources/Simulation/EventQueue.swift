import MigrationEngine

/// What is still to happen, in order of time; of two things at one instant the first scheduled
/// happens first.
struct EventQueue<Event> {
  private struct Entry {
    var time: MonotonicInstant
    var sequence: UInt64
    var event: Event

    func precedes(_ other: Entry) -> Bool {
      time == other.time ? sequence < other.sequence : time < other.time
    }
  }

  private var heap: [Entry] = []
  private var lastSequence: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }
  var count: Int { heap.count }
  var nextTime: MonotonicInstant? { heap.first?.time }

  mutating func schedule(_ event: Event, at time: MonotonicInstant) {
    lastSequence += 1
    heap.append(Entry(time: time, sequence: lastSequence, event: event))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].precedes(heap[parent]) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  mutating func takeNext() -> (time: MonotonicInstant, event: Event)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return (first.time, first.event) }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && heap[child].precedes(heap[least]) {
        least = child
      }
      if least == parent { break }
      heap.swapAt(parent, least)
      parent = least
    }
    return (first.time, first.event)
  }
}
