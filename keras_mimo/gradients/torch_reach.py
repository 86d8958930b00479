import heapq


def reached(outputs, sources):
    """Which tensors each output depends on, by the graph of the forward pass.

    A vectorised pass back has zeros also where there is no way to a tensor.

    Args:
        outputs: List of K tensors.
        sources: List of tensors.

    Returns:
        K lists of booleans, one per source.
    """
    masks, nodes, last_first = {}, {}, []

    def visit(node, mask):
        if node is None:
            return
        if node not in masks:
            masks[node] = 0
            # Leaves have no number of their own, and lead nowhere.
            heapq.heappush(last_first, (-node._sequence_nr(), len(nodes)))
            nodes[len(nodes)] = node
        masks[node] |= mask

    for k, output in enumerate(outputs):
        visit(output.grad_fn, 1 << k)
    # A node comes after all whose results it takes, and has a larger number.
    while last_first:
        node = nodes[heapq.heappop(last_first)[1]]
        for following, _ in node.next_functions:
            visit(following, masks[node])
    leaves = {
        id(node.variable): mask
        for node, mask in masks.items()
        if hasattr(node, "variable")
    }

    def mask_of(source):
        if source.grad_fn is None:
            return leaves.get(id(source), 0)
        return masks.get(source.grad_fn, 0)

    found = [mask_of(source) for source in sources]
    return [
        [bool(mask >> k & 1) for mask in found] for k in range(len(outputs))
    ]
