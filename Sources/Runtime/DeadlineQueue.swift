/// The members' deadlines, earliest first, in a binary heap.
///
/// A member knows its own place, so that moving a deadline costs a logarithm whatever the number of
/// migrations.
struct DeadlineQueue {
  private var heap: [(instant: Int64, member: LoopMember)] = []

  /// The earliest deadline; nil when there is none.
  var earliest: Int64? { heap.first?.instant }

  /// Sets or clears the member's deadline.
  mutating func set(_ member: LoopMember, to instant: Int64?) {
    switch (member.deadlinePosition, instant) {
    case (nil, nil): return
    case (nil, let instant?):
      heap.append((instant, member))
      member.deadlinePosition = heap.count - 1
      rise(heap.count - 1)
    case (let position?, let instant?):
      guard heap.indices.contains(position), heap[position].instant != instant else { return }
      heap[position].instant = instant
      restore(position)
    case (let position?, nil):
      remove(at: position)
    }
  }

  /// Takes out the earliest member if its deadline is not after `now`.
  mutating func removeDue(at now: Int64) -> LoopMember? {
    guard let first = heap.first, first.instant <= now else { return nil }
    remove(at: 0)
    return first.member
  }

  private mutating func remove(at position: Int) {
    guard heap.indices.contains(position) else { return }
    let last = heap.count - 1
    heap[position].member.deadlinePosition = nil
    if position != last {
      heap[position] = heap[last]
      heap[position].member.deadlinePosition = position
    }
    heap.removeLast()
    if position < heap.count { restore(position) }
  }

  private mutating func restore(_ position: Int) {
    rise(position)
    sink(position)
  }

  private mutating func rise(_ start: Int) {
    var child = start
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent].instant <= heap[child].instant { return }
      exchange(parent, child)
      child = parent
    }
  }

  private mutating func sink(_ start: Int) {
    var parent = start
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && heap[child].instant < heap[smallest].instant {
        smallest = child
      }
      if smallest == parent { return }
      exchange(parent, smallest)
      parent = smallest
    }
  }

  private mutating func exchange(_ left: Int, _ right: Int) {
    heap.swapAt(left, right)
    heap[left].member.deadlinePosition = left
    heap[right].member.deadlinePosition = right
  }
}
