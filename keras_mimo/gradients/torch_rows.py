import torch


class TorchRows:
    """What `FlatRows` computes, in few calls of PyTorch.

    The gradients with respect to what the first objective reaches are the rows
    of one matrix, written as each comes from its backward pass, so that none is
    there twice. Other variables, which are mostly heads, stay as they are.

    Args:
        rows: Iterable of K lists, with one gradient or `None` per variable: all
            of the same type.
        count: Integer K.

    Attributes:
        reached: List of K booleans, false where all of a row is `None`.
    """

    def __init__(self, rows, count):
        self._count = count
        self.reached = []
        for k, row in enumerate(rows):
            self.reached.append(any(g is not None for g in row))
            if k == 0:
                self._others = [{} for _ in row]
                self._shapes = [None if g is None else g.shape for g in row]
                self._sizes = [shape.numel() for shape in self._inside()]
                self._matrix = None
            self._add(k, row)

    def _inside(self):
        return [shape for shape in self._shapes if shape is not None]

    def _add(self, k, row):
        inside = []
        for shape, column, gradient in zip(
            self._shapes, self._others, row, strict=True
        ):
            if shape is not None:
                inside.append(gradient)
            elif gradient is not None:
                column[k] = gradient
        if not inside:
            return
        if self._matrix is None:
            self._matrix = inside[0].new_empty(self._count, sum(self._sizes))
        parts = [
            self._matrix.new_zeros(size) if g is None else g.reshape(-1)
            for g, size in zip(inside, self._sizes, strict=True)
        ]
        torch.cat(parts, out=self._matrix[k])

    def gramian(self, product):
        """As that of `FlatRows`."""
        if self._matrix is not None:
            total = product(self._matrix)
        else:
            total = torch.zeros((self._count, self._count))
        groups, single = {}, {}
        for column in self._others:
            if column:
                groups.setdefault(tuple(column), []).append(column.values())
        for objectives, columns in groups.items():
            rows = [
                torch.cat([gradient.reshape(-1) for gradient in row])
                for row in zip(*columns, strict=True)
            ]
            if len(rows) == 1:
                alike = single.setdefault(rows[0].shape, {})
                alike[objectives[0]] = rows[0]
                continue
            block = product(torch.stack(rows))
            total = total.to(block)
            places = torch.tensor(objectives, device=block.device)
            total[places[:, None], places] += block
        for alike in single.values():
            # Heads of one size: of their products the squares count.
            squares = product(torch.stack(list(alike.values()))).diagonal()
            total = total.to(squares)
            places = torch.tensor(list(alike), device=squares.device)
            total.diagonal().index_add_(0, places, squares)
        return total

    def weighted_sum(self, weights):
        """As that of `FlatRows`."""
        inside = []
        if self._matrix is not None:
            flat = self._weigh(weights.to(self._matrix.dtype))
            inside = flat.split(self._sizes)
        inside = iter(inside)
        weights = weights.unbind()
        return [
            _sum(weights, column) if shape is None else next(inside).view(shape)
            for shape, column in zip(self._shapes, self._others, strict=True)
        ]

    def _weigh(self, weights):
        # A user may have allowed TF32 in a GPU's matrix products.
        if not self._matrix.is_cuda:
            return weights @ self._matrix
        total = weights[0] * self._matrix[0]
        for weight, row in zip(weights[1:], self._matrix[1:], strict=True):
            total.addcmul_(weight, row)
        return total


def _sum(weights, column):
    if not column:
        return None
    terms = [weights[k].to(g.dtype) * g for k, g in column.items()]
    return sum(terms[1:], terms[0])
